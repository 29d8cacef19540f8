#!/usr/bin/env bash
# Assigns of dulse and SeaweedFS side by side: processor time of a request, requests a second, p99.
#
#   scripts/assign-vs-weed.sh [--connections 16] [--seconds 5] [--rounds 5] [--dir DIR]
#
# SeaweedFS takes assigned bytes for written and answers errors once its volumes count as full; those
# are told and do not count as requests.
# Needs wrk and python3; DULSE and WEED name the programs, otherwise ours is built and theirs fetched
# with pip.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
command -v wrk >/dev/null || { echo "wrk is not installed: apt-get install wrk" >&2; exit 1; }
find_dulse
find_weed
python3 scripts/bench/assign.py "$@"
