#!/usr/bin/env bash
# Opening a volume of 10 GiB without its index, the page cache empty: it is read at no less than 0.7
# times what `dd` reads from the same file. Twice, with ten million needles and with larger ones. Exit
# 1 when it is slower.
#
#   scripts/full-scan.sh [--gib 10] [--rounds 3] [--dir DIR]
#
# Needs root (to empty the page cache), python3, and room for the volume. BENCH names the program,
# otherwise it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
if [ -z "${BENCH:-}" ]; then
  built=$(cargo bench --locked --no-run --package dulse-volume --bench full_scan 2>&1)
  BENCH=$(sed -n 's/.*Executable.*(\(.*\))$/\1/p' <<<"$built")
fi
export BENCH
python3 scripts/checks/full_scan.py "$@"
