#!/usr/bin/env bash
# Runs every benchmark of a build folder; each one checks its results before it takes time.
#   tools/bench.sh BUILD-DIR [OPTIONS for each benchmark, e.g. --json]
set -euo pipefail
build=$1
shift
for program in "$build"/bench/*_bench "$build"/bench/*/*_bench; do
  [ -x "$program" ] && [ -f "$program" ] || continue
  echo "== ${program#"$build"/}"
  "$program" "$@"
done
