#!/usr/bin/env bash
# `dulse server` on an empty directory: the first write within 300 ms of start, less than 40 MB of
# memory when idle. Exit 1 when it is not so.
#
#   scripts/start-time.sh [--runs 5] [--dir DIR]
#
# DULSE names the program, otherwise it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
find_dulse
python3 scripts/checks/start_time.py "$@"
