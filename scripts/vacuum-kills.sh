#!/usr/bin/env bash
# Kills the server with -9 at random moments of compactions, under clients that write, overwrite and
# delete: after each start every answered write is readable, every answered delete gone, and what was
# under way is whole or absent. Exit 1 when it is not so.
#
#   scripts/vacuum-kills.sh [--kills 50] [--seed N] [--dir DIR]
#
# Needs python3 and 2 GB of disk. DULSE names the program, otherwise it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
find_dulse
python3 scripts/checks/vacuum_kills.py "$@"
