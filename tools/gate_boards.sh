#!/usr/bin/env bash
# The boards of docs/gates.md: every gate trained alike at equal FLOPs over three seeds, rules of inference on trained models,
# and all gates on the routing bench. Goes on where it was stopped. About an hour on two cores.
#   tools/gate_boards.sh [PROGRAM [RUNS-DIR]]
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-build/switchyard}
runs=${2:-runs/boards}
budget=flops=6e11
mkdir -p "$runs"

trained() {  # OBJECTIVE TITLE ABOUT: one core each, so that two boards run side by side
  "$program" compare "recipes/boards/dense-$1.toml" recipes/gates/*.toml --objective "$1" --budget "$budget" --seeds 3 --threads 1 --quiet \
    --set train.log_every=20 --set train.checkpoint_every=0 --out "$runs/$1" --title "$2" --about "$3"
}
trained next "Gates that predict the next byte" \
  "The recipes of recipes/gates that a causal model can have, and a dense model, on the embedded corpus: equal FLOPs (forward and backward, $budget), three seeds, one learning rate." &
trained masked "Gates that look at all of a text" \
  "The recipes whose gate looks along the text fill in masked bytes of the same corpus: equal FLOPs ($budget), three seeds, one learning rate."
wait $!

"$program" compare --task rules "$runs"/next/mixtral-gate-? --rules tools/boards/inference.toml --out "$runs/inference" \
  --title "Rules of inference on one trained gate" --about "The three models of mixtral-gate of the first board, measured on all validation text under rules that need no training."
"$program" compare --task rules "$runs"/next/demix-? --rules tools/boards/domains.toml --out "$runs/domains" \
  --title "Domain experts on text of unknown domain" --about "The three models of demix of the first board: tags of the text, or mixtures of all experts by Bayes."
"$program" compare --task clusters recipes/gates/*.toml --seeds 3 --out "$runs/clusters" --title "All gates on the routing bench" \
  --about "One layer of linear experts learns clustered linear regression: 300 steps of 512 tokens, three seeds; docs/gates-bench.md says what it tells and what it cannot."

place=0
for board in next masked inference domains clusters; do
  cp "$runs/$board/compare.json" "docs/boards/$((++place))-$board.json"
done
