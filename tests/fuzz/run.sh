#!/usr/bin/env bash
# run.sh TARGET SEEDS: 5 s of fuzzing, 120 s with VITRINE_LONG. What is found goes to a directory of its own, so the
# seeds in the tree stay as they are; the input of a failure is kept beside the target.
set -euo pipefail

target=$1
seeds=$2
seconds=5
if [[ -n ${VITRINE_LONG:-} ]]; then seconds=120; fi
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
"$target" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix="$target-failure-" "$found" "$seeds" 2>&1 | tail -n 40
