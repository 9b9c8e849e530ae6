#!/usr/bin/env bash
# Runs every benchmark of a build folder; each one checks its results before it takes time.
#   tools/bench.sh BUILD-DIR [OPTIONS for each benchmark, e.g. --json]
set -euo pipefail
build=$1
shift
# As the program's own `bench` (src/cli/threads.h): an OpenBLAS that is older than the CPU would take kernels of before AVX.
if grep -qw avx512f /proc/cpuinfo; then export OPENBLAS_CORETYPE="${OPENBLAS_CORETYPE:-SKYLAKEX}"; fi
for program in "$build"/bench/*_bench "$build"/bench/*/*_bench; do
  [ -x "$program" ] && [ -f "$program" ] || continue
  echo "== ${program#"$build"/}"
  "$program" "$@"
done
