#!/usr/bin/env bash
# The needle map of one volume of 10,000,000 needles: resident memory, lookups, inserts, and how long
# opening such a volume takes. Exit 1 when a goal is missed.
#
#   scripts/needle-map.sh [--needles 10000000] [WORKLOAD]...
#
# Needs 500 MB of room for temporary files and 1 GB of memory.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo bench --locked --quiet --package dulse-volume --bench needle_map -- "$@"
