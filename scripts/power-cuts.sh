#!/usr/bin/env bash
# Real power cuts: an ext4 of its own on a loop device is shut down in the middle of 64 clients' writes
# without its log being flushed, mounted again, and the server started on what is left. Whatever was
# answered is there, whatever was not is there whole or not at all. Exit 1 on any loss.
#
#   scripts/power-cuts.sh [--cuts 100] [--seed N] [--clients 64] [--limit-s 3600]
#
# For root on Linux, with loop devices and e2fsprogs; exit 2 where that is missing. DULSE names the
# program, otherwise it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
. scripts/lib/own_disk.sh
run_with_own_disk power-cuts scripts/checks/power_cuts.py "$@"
