#!/usr/bin/env bash
# clang-tidy on the torch-free part (Clang does not compile libtorch 1.13 as C++20).
set -euo pipefail
cd "$(dirname "$0")/.."
cmake -S . -B build-lint -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DSWITCHYARD_TORCH=OFF -DSWITCHYARD_TESTS=OFF >/dev/null
git ls-files 'src/base/*.cpp' 'src/io/*.cpp' 'src/data/*.cpp' 'src/report/*.cpp' | xargs -P "$(nproc)" -n 4 clang-tidy -p build-lint --quiet
