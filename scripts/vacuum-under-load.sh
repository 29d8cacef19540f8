#!/usr/bin/env bash
# A volume of 1,000,000 needles, half of them deleted, is compacted under 2,000 writes and 5,000 reads
# a second: no request fails, no needle is lost, and the 99th percentile of reads stays below three
# times the undisturbed one. Exit 1 when it is not so.
#
#   scripts/vacuum-under-load.sh [--needles 1000000] [--dir DIR]
#
# Needs wrk, python3 and 4 GB of disk. DULSE names the program, otherwise it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
command -v wrk >/dev/null || { echo "wrk is not installed: apt-get install wrk" >&2; exit 1; }
find_dulse
python3 scripts/checks/vacuum_under_load.py "$@"
