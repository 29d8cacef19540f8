# Runs a check that mounts a file system of its own, in an image on a loop device; sourced, not run.
#
# `run_with_own_disk NAME CHECK.py ARGUMENTS...` ends with 2 where this machine cannot do it. Mounts and
# servers end with the namespaces they live in; images lie in SCRATCH and their loop devices are given
# back. `programs.sh` is sourced before.

refuse() {
  echo "$1: $2" >&2
  exit 2
}

can_have_own_disk() {
  [ "$(uname -s)" = Linux ] || refuse "$1" "this needs Linux: it mounts an ext4 of its own"
  [ "$(id -u)" = 0 ] || refuse "$1" "this needs root: it mounts a file system of its own (nothing of yours is touched)"
  for tool in mkfs.ext4 losetup mount umount unshare; do
    command -v "$tool" >/dev/null || refuse "$1" "this needs $tool (packages e2fsprogs and util-linux)"
  done
  [ -e /dev/loop-control ] || refuse "$1" "there are no loop devices here: no /dev/loop-control"
  unshare --mount --pid --fork --mount-proc true 2>/dev/null ||
    refuse "$1" "this needs namespaces of its own for mounts and processes, and may not make them here"
}

give_back() {
  losetup --list --noheadings --output NAME,BACK-FILE 2>/dev/null |
    while read -r device image; do
      case "$image" in "$SCRATCH"/*) losetup --detach "$device" || true ;; esac
    done
  rm -rf "$SCRATCH"
}

run_with_own_disk() {
  local name=$1 check=$2
  shift 2
  can_have_own_disk "$name"
  trap give_back EXIT
  find_dulse
  unshare --mount --pid --fork --kill-child --mount-proc python3 "$check" "$@"
}
