#!/usr/bin/env bash
# Fills a file system of 512 MB through a server, without and with a reserve: what was acknowledged stays
# readable, also after `kill -9`; with a reserve everything can be deleted; a vacuum without room says so
# and changes nothing. Exit 1 when it is not so, 2 where this machine has no loop devices.
#
#   scripts/disk-full.sh [--seed N] [--dir DIR]
#
# For root on Linux, with loop devices, e2fsprogs and 600 MB of disk. DULSE names the program, otherwise it
# is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
. scripts/lib/own_disk.sh
run_with_own_disk disk-full scripts/checks/disk_full.py "$@"
