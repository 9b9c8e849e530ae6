#!/usr/bin/env bash
# The tests of the library under GCC's address and undefined behaviour sanitizers, and a short run of each fuzz target.
# Build folders: build-asan, build-fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(nproc)}

# The program and the tests that start it (cli, systems, consumer) are left out: they run what the tests below run, as
# processes, and would double the time. So are, unless SANITIZE_ALL=1, those that train (vision, eval, steps) or measure (bench):
# minutes of the same kernels and operations.
folders=(base kernels io data report core gates losses capacity dispatch comm mixers layer models infer)
[ "${SANITIZE_ALL:-0}" = 1 ] && folders+=(vision eval steps bench)

cmake -S . -B build-asan -G Ninja -DCMAKE_BUILD_TYPE=Release -DSWITCHYARD_SANITIZE=address,undefined -DCMAKE_CXX_FLAGS_RELEASE=-O1
cmake --build build-asan -j "$jobs" --target "${folders[@]/%/_tests}"
# libtorch and its libraries keep small blocks until the end of the process, so leaks are not looked for.
# The calibration and two headlines train for their figures: nothing that the other tests do not run.
export GTEST_FILTER=-Calibration.*:StMoE.*:CubicMixture.Solves*
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
ctest --test-dir build-asan --output-on-failure -j "$jobs" -R "^($(IFS='|'; echo "${folders[*]}"))\$"

tools/fuzz.sh "${FUZZ_SECONDS:-20}"
