#!/usr/bin/env bash
# The learning rates behind docs/demo.md: both demo recipes over a grid of rates, one run per core with one thread each, on
# a seed that the claim does not use. Prints one line per run.
#   tools/demo_sweep.sh PROGRAM [RUNS-DIR] [RATE...]
set -euo pipefail
export program; program=$(realpath "$1")
cd "$(dirname "$0")/.."
export runs=${2:-runs/sweep}
rates=("${@:3}")
[ ${#rates[@]} -gt 0 ] || rates=(1.5e-3 3e-3 6e-3 1.2e-2)
mkdir -p "$runs"

one() {  # RECIPE RATE
  "$program" train "recipes/demo/$1.toml" --out "$runs/$1-$2" --resume --quiet --set seed=11 --set "train.optimizer.lr=$2" \
    --set train.threads=1 --set train.eval_every=0 --set train.checkpoint_every=0 >/dev/null
  printf '%-6s lr %-7s %s bits per byte\n' "$1" "$2" "$(grep -o '"bits_per_byte": *[0-9.]*' "$runs/$1-$2/run.json" | grep -o '[0-9.]*$')"
}
export -f one
for rate in "${rates[@]}"; do for recipe in dense moe; do echo "$recipe $rate"; done; done |
  xargs -P "$(nproc)" -L 1 bash -c 'one "$0" "$1"'
