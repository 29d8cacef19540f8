#!/usr/bin/env bash
# Durable puts over one connection beside a loop that writes as much and syncs each: the median put
# takes at most 1.5 times the median turn of the loop. Exit 1 when it does not.
#
#   scripts/one-connection.sh [--pairs 5] [--seconds 4] [--size 1024] [--dir DIR]
#
# Needs wrk and python3; DULSE names the program, otherwise it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
command -v wrk >/dev/null || { echo "wrk is not installed: apt-get install wrk" >&2; exit 1; }
find_dulse
python3 scripts/bench/one_connection.py "$@"
