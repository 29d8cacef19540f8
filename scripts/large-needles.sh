#!/usr/bin/env bash
# Needles of 128 MB: PUT and GET beside SeaweedFS, our memory while several are under way, and how
# long small PUTs to the same volume take beside them. Exit 1 when a goal is missed.
#
#   scripts/large-needles.sh [--smoke] [--rounds 5] [--size-mb 128] [--only pairs|memory|small] [--dir DIR]
#
# Ours answers a PUT once it is on disk, theirs before. Needs python3; DULSE and WEED name the
# programs, otherwise ours is built and theirs fetched with pip.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh

find_dulse
case " $* " in *" --only memory "* | *" --only small "*) ;; *) find_weed ;; esac
python3 scripts/bench/large_needles.py "$@"
