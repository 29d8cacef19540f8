#!/usr/bin/env bash
# Takes the leader of three masters away, again and again, under clients that ask for fids: killed with
# -9, stopped for five seconds, stopped in an orderly way, told to hand over. Prints how long it took
# to the next fid, and exits 1 when a fid was handed out twice, a deposed leader handed one out, or a
# time is over its goal.
#
#   scripts/failover.sh [--kills 100] [--pauses 20] [--restarts 6] [--transfers 20] [--dir DIR]
#
# Needs python3. DULSE names the program, otherwise it is built. Loopback only.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
find_dulse
python3 scripts/checks/failover.py "$@"
