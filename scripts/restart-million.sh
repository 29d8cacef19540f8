#!/usr/bin/env bash
# A volume with 1,000,000 needles of 1 kB: read from within a second of start, after a clean stop and
# after kill -9, with at most 24 bytes of resident memory a needle. Exit 1 when it is not so.
#
#   scripts/restart-million.sh [--needles 1000000] [--dir DIR]
#
# Needs wrk, python3 and 3 GB of disk. DULSE names the program, otherwise it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
command -v wrk >/dev/null || { echo "wrk is not installed: apt-get install wrk" >&2; exit 1; }
find_dulse
python3 scripts/checks/restart_million.py "$@"
