#!/usr/bin/env bash
# The boards of docs/gates.md: every gate trained alike at equal FLOPs over three seeds, rules of inference on trained models,
# and all gates on the routing bench. Goes on where it was stopped. About an hour on two cores.
#   tools/gate_boards.sh [PROGRAM [RUNS-DIR]]
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-build/switchyard}
runs=${2:-runs/boards}
budget=flops=6e11
adapting=flops=1.5e11
mkdir -p "$runs"

# Mixtures of small experts adapt a frozen model and have boards of their own.
adapters=(recipes/gates/{loramoe,mole,mov,omni-smola}-gate.toml)
gates=()
for recipe in recipes/gates/*.toml; do [[ " ${adapters[*]} " == *" $recipe "* ]] || gates+=("$recipe"); done

board() {  # NAME TITLE ABOUT ARGUMENTS...: trained on one core, so that two boards run side by side; times mean nothing then
  "$program" compare "${@:4}" --seeds 3 --threads 1 --quiet --without step_ms,step_over_dense --set train.log_every=20 --set train.checkpoint_every=0 \
    --out "$runs/$1" --title "$2" --about "$3"
}

next() {
  board next "Gates that predict the next byte" \
    "The recipes of recipes/gates that a causal model can have, and a dense model, on the embedded corpus: equal FLOPs (forward and backward, $budget), three seeds, one learning rate." \
    recipes/boards/dense-next.toml "${gates[@]}" --objective next --budget "$budget"
  board adapted-next "Small experts beside a frozen model that predicts the next byte" \
    "Mixtures of small experts at the linears of the first dense model of the board above, which stays frozen ($adapting); beside them that model trained on for as many FLOPs." \
    recipes/boards/dense-next.toml recipes/gates/{loramoe,mov}-gate.toml --budget "$adapting" --init "$runs/next/dense-next-1"
}
masked() {
  board masked "Gates that look at all of a text" \
    "The recipes whose gate looks along the text fill in masked bytes of the same corpus: equal FLOPs ($budget), three seeds, one learning rate." \
    recipes/boards/dense-masked.toml "${gates[@]}" --objective masked --budget "$budget"
  board adapted-masked "Small experts beside a frozen model that fills in masked bytes" \
    "As above; mole-gate and omni-smola-gate look along the text. MoLE weighs LoRAs that nobody has trained here: recipes/gates/mole-gate.toml has its three stages." \
    recipes/boards/dense-masked.toml "${adapters[@]}" --budget "$adapting" --init "$runs/masked/dense-masked-1"
}
next &
masked
wait $!

"$program" compare --task rules "$runs"/next/mixtral-gate-? --rules tools/boards/inference.toml --out "$runs/inference" \
  --title "Rules of inference on one trained gate" --about "The three models of mixtral-gate of the first board, measured on all validation text under rules that need no training."
"$program" compare --task rules "$runs"/next/demix-? --rules tools/boards/domains.toml --out "$runs/domains" \
  --title "Domain experts on text of unknown domain" --about "The three models of demix of the first board: tags of the text, or mixtures of all experts by Bayes."
"$program" compare --task clusters recipes/gates/*.toml --seeds 3 --out "$runs/clusters" --title "All gates on the routing bench" \
  --about "One layer of linear experts learns clustered linear regression: 300 steps of 512 tokens, three seeds; docs/gates-bench.md says what it tells and what it cannot."

place=0
for name in next masked adapted-next adapted-masked inference domains clusters; do
  cp "$runs/$name/compare.json" "docs/boards/$((++place))-$name.json"
done
