#!/usr/bin/env bash
# Breaks the engine in one place after the other, in a copy of the source, and shows which test
# notices. Exit 1 when one goes unnoticed, or when an edit no longer fits the source.
#
#   scripts/mutations.sh [NAME...]
#
# Without names all of them are tried: about a minute each on two cores. Needs python3.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONDONTWRITEBYTECODE=1
python3 scripts/checks/mutations.py "$@"
