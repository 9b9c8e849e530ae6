#!/usr/bin/env bash
# Brings llama.cpp, as the npm package node-llama-cpp with its program for x86-64 without a GPU, into runs/llama.cpp (opt-in; 60 MB). npm
# checks the packages against the checksums of the registry. The tests of GGUF run it when it is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v npm >/dev/null || { echo "llama.cpp comes as an npm package: install nodejs and npm first" >&2; exit 1; }
version=3.22.1
mkdir -p runs/llama.cpp
npm install --prefix runs/llama.cpp --no-audit --no-fund --ignore-scripts --omit=optional "node-llama-cpp@$version" "@node-llama-cpp/linux-x64@$version"
echo "llama.cpp is in runs/llama.cpp; build/tests/models_tests --gtest_filter='LlamaCpp.*' uses it"
