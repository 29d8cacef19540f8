#!/usr/bin/env bash
# Thousands of real files by 16 clients at once, `kill -9` three times in the middle: every file that
# was answered 201 is read back with the same SHA-256. Exit 1 on any loss.
#
#   scripts/real-input.sh [--files DIR]... [--at-most 20000] [--clients 16] [--kills 3]
#
# The files are cargo's registry sources and the compiler's libraries unless --files says otherwise.
# DULSE names the program, otherwise it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib/programs.sh
find_dulse
python3 scripts/checks/real_input.py "$@"
