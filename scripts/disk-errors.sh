#!/usr/bin/env bash
# A disk that answers errors: strace makes one fdatasync or pwritev of the running server fail, while
# clients write to several volumes. Exactly the volume that it hits stops and says why; nothing that was
# answered is lost, at once and after a restart; the others go on. Exit 1 on any finding.
#
#   scripts/disk-errors.sh [--rounds 12] [--clients 16] [--seed N]
#
# For Linux with strace; exit 2 where that is missing. DULSE names the program, otherwise it is built.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v strace >/dev/null || {
  echo "disk-errors: this needs strace" >&2
  exit 2
}

. scripts/lib/programs.sh
find_dulse
python3 scripts/checks/disk_errors.py --dir "$SCRATCH" "$@"
