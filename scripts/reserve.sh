#!/usr/bin/env bash
# Whether space reserved ahead by fallocate(KEEP_SIZE) makes synced appends faster, beside a file that
# just grows and one that is filled with zeros ahead, as a volume file is. Prints the rates.
#
#   scripts/reserve.sh [--rounds 5] [--seconds 2.5] [--size 1024] [--dir DIR]
#
# For Linux; needs python3.
set -euo pipefail
cd "$(dirname "$0")/.."
SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/dulse-script.XXXXXX")
trap 'rm -rf "$SCRATCH"' EXIT
export SCRATCH PYTHONDONTWRITEBYTECODE=1
python3 scripts/bench/reserve.py "$@"
