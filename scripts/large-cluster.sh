#!/usr/bin/env bash
# One master of a large cluster: 1,000 volume servers with 100 volumes each. Its memory, how soon it is
# back after kill -9, and what an assign costs beside one of a master with three volume servers.
#
#   scripts/large-cluster.sh [--servers 1000] [--volumes 100] [--rounds 3] [--seconds 4] [--dir DIR]
#
# The volume servers are one process that speaks as all of them: it answers `dulse cluster recover`, so
# that the master takes the volumes over, and reports twice a second for each. Exits 1 when a figure
# misses its goal. Needs wrk and python3; DULSE names the program, otherwise it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
command -v wrk >/dev/null || { echo "wrk is not installed: apt-get install wrk" >&2; exit 1; }
find_dulse
python3 scripts/bench/large_cluster.py "$@"
