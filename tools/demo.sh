#!/usr/bin/env bash
# The demo: train the sparse recipe, evaluate, generate, write the report. A second call does only what is missing.
#   tools/demo.sh PROGRAM [RUN-DIR]
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")/.."
run=${2:-runs/demo}
mkdir -p "$(dirname "$run")"

"$program" train recipes/demo/moe.toml --out "$run" --resume
echo
"$program" eval "$run"
echo
"$program" generate "$run" "It was" --max-tokens 160 --temperature 0.8 --top-p 0.95 --seed 1
echo
"$program" report "$run"
