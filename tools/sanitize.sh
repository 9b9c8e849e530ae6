#!/usr/bin/env bash
# Tests under GCC's address and undefined behaviour sanitizers, and a short run of each fuzz target. SANITIZE says how much:
#   quick     what knows nothing of libtorch: kernels, parsers, formats; where nearly all pointers are (minutes)
#   library   also the library on libtorch (the default; most of an hour on two cores)
#   all       also the tests that train or measure (vision, eval, steps, bench): minutes of the same kernels and operations
# The program and the tests that start it (cli, systems, consumer) run what these run, as processes, and are left out.
# Build folders: build-asan-quick, build-asan, build-fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(nproc)}

quick=(base kernels io data report)
library=("${quick[@]}" core gates losses capacity dispatch comm mixers layer models infer)
case ${SANITIZE:=library} in
  quick) folders=("${quick[@]}") build=build-asan-quick torch=OFF ;;
  library) folders=("${library[@]}") build=build-asan torch=ON ;;
  all) folders=("${library[@]}" vision eval steps bench) build=build-asan torch=ON ;;
  *) echo "SANITIZE=$SANITIZE: expected quick, library or all" >&2; exit 2 ;;
esac

cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DSWITCHYARD_TORCH="$torch" -DSWITCHYARD_SANITIZE=address,undefined -DCMAKE_CXX_FLAGS_RELEASE=-O1
cmake --build "$build" -j "$jobs" --target "${folders[@]/%/_tests}"
# libtorch and its libraries keep small blocks until the end of the process, so leaks are not looked for.
# The calibration and two headlines train for their figures: nothing that the other tests do not run.
export GTEST_FILTER=-Calibration.*:StMoE.*:CubicMixture.Solves*
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
ctest --test-dir "$build" --output-on-failure -j "$jobs" -R "^($(IFS='|'; echo "${folders[*]}"))\$"

tools/fuzz.sh "${FUZZ_SECONDS:-20}"
