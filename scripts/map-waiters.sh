#!/usr/bin/env bash
# Clients that wait for the next change of the volume map: how soon a change reaches all of them, and
# how much memory they cost a master. Exit 1 when it is over a second, or over 16 KiB a client.
#
#   scripts/map-waiters.sh [--waiters 10000] [--rounds 5] [--masters HOST:PORT,... --pids PID,...]
#
# Without --masters it starts a server of its own. DULSE names the program, otherwise it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
find_dulse
ulimit -n "$(ulimit -Hn)"
python3 scripts/checks/map_waiters.py "$@"
