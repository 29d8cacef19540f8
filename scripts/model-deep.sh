#!/usr/bin/env bash
# Searches the larger cases of the replication model in full, one after the other: the largest has
# 49 million states. Takes minutes and gigabytes. Arguments are passed on, for example part of a
# test's name.
# Exits 1 if a promise can be broken; the shortest way to that is printed.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo test --test model -- --ignored --nocapture --test-threads 1 "$@"
