#!/usr/bin/env bash
# Random sequences of writes, faults and crashes on a simulated disk against the reference, many more
# than a test run has time for. Prints how far it is; a failure prints the seed that replays it and
# the shortest sequence found, and exits with 1.
#
#   scripts/engine-deep.sh [SEQUENCES] [FIRST_SEED]
#
# 2,000,000 sequences unless told otherwise; 300,000 took two and a half minutes on two cores. Without
# a first seed the clock picks one, so that no two runs try the same.
set -euo pipefail
cd "$(dirname "$0")/.."
sequences=${1:-2000000}
first=${2:-$(date +%s)000}
echo "$sequences sequences from seed $first on"
DULSE_SEQUENCES=$sequences DULSE_SEED=$first DULSE_PROGRESS=1 \
  cargo test --release --locked -p dulse-volume --test engine -- --nocapture \
  model::a_volume_agrees_with_the_reference_whatever_happens_to_its_disk
