#!/usr/bin/env bash
# The claim of docs/demo.md: the dense and the sparse demo recipe over three seeds, one after the other on a quiet machine.
#   tools/demo_claim.sh PROGRAM [RUNS-DIR]
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")/.."
runs=${2:-runs/claim}
mkdir -p "$runs"
for seed in 1 2 3; do
  for recipe in dense moe; do
    "$program" train "recipes/demo/$recipe.toml" --out "$runs/$recipe-$seed" --resume --set "seed=$seed" --set train.eval_every=50 --set train.checkpoint_every=0
  done
done
"$program" report "$runs"/dense-? "$runs"/moe-? --out "$runs/comparison.html" --svg "$runs/demo"
