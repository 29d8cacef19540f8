#!/usr/bin/env bash
# Cuts the leader of three masters off from the two others, in network namespaces of their own: both
# ways, and one way at a time. Clients reach all masters all the time. Prints how long the leader still
# handed out fids, how soon another one did and whether healing changed anything; exits 1 when a fid was
# handed out twice or a time is over its goal.
#
#   scripts/partitions.sh [--rounds 5] [--dir DIR]
#
# Needs root, iproute2 and python3. DULSE names the program, otherwise it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
find_dulse
python3 scripts/checks/partitions.py "$@"
