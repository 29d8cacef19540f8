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

refuse() {
  echo "power-cuts: $1" >&2
  exit 2
}
[ "$(uname -s)" = Linux ] || refuse "this needs Linux: it shuts down an ext4 with an ioctl"
[ "$(id -u)" = 0 ] || refuse "this needs root: it mounts a file system of its own (nothing of yours is touched)"
for tool in mkfs.ext4 losetup mount umount unshare; do
  command -v "$tool" >/dev/null || refuse "this needs $tool (packages e2fsprogs and util-linux)"
done
[ -e /dev/loop-control ] || refuse "there are no loop devices here: no /dev/loop-control"
unshare --mount --pid --fork --mount-proc true 2>/dev/null ||
  refuse "this needs namespaces of its own for mounts and processes, and may not make them here"

. scripts/lib/programs.sh
# The mount and the server end with the namespaces that they live in; the loop device is left to us.
clean_up() {
  losetup --associated "$SCRATCH/power-cuts/disk.img" --noheadings --output NAME 2>/dev/null |
    while read -r device; do losetup --detach "$device" || true; done
  rm -rf "$SCRATCH"
}
trap clean_up EXIT
find_dulse
unshare --mount --pid --fork --kill-child --mount-proc python3 scripts/checks/power_cuts.py "$@"
