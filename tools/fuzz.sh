#!/bin/sh
# Builds the fuzz targets with Clang in build-fuzz and runs each for some seconds. Ends with 1 after a finding, whose
# input is then in build-fuzz/findings.
#
#   tools/fuzz.sh [SECONDS] [TARGET...]       default: 20 seconds each of all targets
set -eu
cd "$(dirname "$0")/.."
build=${FUZZ_BUILD_DIR:-build-fuzz}
seconds=${1:-20}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- safetensors gguf tokenizer sentencepiece tiktoken recipe chat_template

if ! command -v clang++ >/dev/null; then
  echo "fuzz: clang++ is missing (Debian: apt install clang)" >&2
  exit 1
fi
generator=Unix\ Makefiles
if command -v ninja >/dev/null; then generator=Ninja; fi
quietly() {  # runs a command and shows what it said only when it fails
  "$@" >"$build/build.log" 2>&1 || { cat "$build/build.log" >&2; exit 1; }
}
mkdir -p "$build/findings"
quietly cmake -S . -B "$build" -G "$generator" -DCMAKE_CXX_COMPILER=clang++ -DSWITCHYARD_FUZZ=ON -DSWITCHYARD_TORCH=OFF \
  -DSWITCHYARD_TESTS=OFF

found=0
for target in "$@"; do
  quietly cmake --build "$build" --target "${target}_fuzz"
  # New inputs are collected in the build folder; the corpus of the repository stays small.
  mkdir -p "$build/corpus/$target"
  echo "fuzz: $target, $seconds s"
  if ! "$build/tests/fuzz/${target}_fuzz" "$build/corpus/$target" "tests/fuzz/corpus/$target" \
      -dict="tests/fuzz/$target.dict" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
      -artifact_prefix="$build/findings/$target-" -print_final_stats=1 >"$build/$target.log" 2>&1; then
    found=1
    tail -n 60 "$build/$target.log" >&2
    echo "fuzz: FINDING in $target, see $build/findings" >&2
  else
    grep -E "number_of_executed_units|new_units_added" "$build/$target.log" || true
  fi
done
exit $found
