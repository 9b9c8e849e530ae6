#!/usr/bin/env bash
# Every test under GCC's address and undefined behaviour sanitizers, the communicator under the thread sanitizer, and a
# short run of each fuzz target. Build folders: build-asan, build-tsan, build-fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(nproc)}

cmake -S . -B build-asan -G Ninja -DCMAKE_BUILD_TYPE=Release -DSWITCHYARD_SANITIZE=address,undefined -DCMAKE_CXX_FLAGS_RELEASE=-O1
cmake --build build-asan -j "$jobs"
# libtorch and its libraries keep small blocks until the end of the process, so leaks are looked for in torch-free tests only.
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
ASAN_OPTIONS=detect_leaks=0 ctest --test-dir build-asan --output-on-failure -LE slow

tools/fuzz.sh "${FUZZ_SECONDS:-20}"
