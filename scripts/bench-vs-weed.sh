#!/usr/bin/env bash
# dulse and SeaweedFS side by side: processor time per request, requests per second, p99.
#
#   scripts/bench-vs-weed.sh [--smoke] [--spread] [--submit] [--fsync] [--size 1024] [--connections 16] [--seconds 8] [--rounds 5] [--dir DIR]
#
# Ours answers a put once it is on disk, theirs before, unless --fsync tells it to sync as well.
# Needs wrk and python3; DULSE and WEED name the programs, otherwise ours is built and theirs fetched
# with pip.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
command -v wrk >/dev/null || { echo "wrk is not installed: apt-get install wrk" >&2; exit 1; }

case " $* " in *" --only weed "*) ;; *) find_dulse ;; esac
case " $* " in *" --only dulse "*) ;; *) find_weed ;; esac
python3 scripts/bench/compare.py "$@"
