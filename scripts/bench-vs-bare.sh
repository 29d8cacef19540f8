#!/usr/bin/env bash
# Gets of 1 kB beside a bare axum handler that answers 1 kB from memory: at most 1.7 times its
# processor time per request. Exit 1 when it is more.
#
#   scripts/bench-vs-bare.sh [--rounds 5] [--seconds 5] [--connections 16] [--dir DIR]
#
# Needs wrk and python3; DULSE and BARE name the programs, otherwise they are built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
command -v wrk >/dev/null || { echo "wrk is not installed: apt-get install wrk" >&2; exit 1; }
find_dulse
if [ -z "${BARE:-}" ]; then
  cargo build --release --locked --quiet --package dulse-shared --example bare_axum
  BARE="${CARGO_TARGET_DIR:-target}/release/examples/bare_axum"
fi
export BARE
python3 scripts/bench/bare.py "$@"
