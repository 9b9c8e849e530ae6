// The two passes over a row that every softmax needs.
#pragma once

#include "kernels/simd.h"

namespace switchyard::kernels::SW_ISA {
namespace {

// Largest of x[0 .. n-1], -infinity if n = 0 or nothing is larger; NaN is passed over.
inline float row_max(const float* x, int64_t n) {
  const Floats lowest = splat(-__builtin_inff());
  Floats top[2] = {lowest, lowest};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    top[0] = max(load(x + i), top[0]);
    top[1] = max(load(x + i + kLanes), top[1]);
  }
  float largest = max_lanes(max(top[0], top[1]));
  for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

// sum exp(x[i] - base)
inline float row_sum_exp(const float* x, int64_t n, float base) {
  Floats sum{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum += exp_fast(load(x + i) - base);
  if (i < n) {
    const Floats rest = exp_fast(load_first(x + i, n - i) - base);
    sum += select(lane_index() < static_cast<int32_t>(n - i), rest, Floats{});
  }
  return sum_lanes(sum);
}

// log sum exp(x[i]) without overflow; -infinity if every x[i] is.
inline float row_lse(const float* x, int64_t n) {
  const float largest = row_max(x, n), base = largest == -__builtin_inff() ? 0.0f : largest;
  return base + __builtin_logf(row_sum_exp(x, n, base));
}

}  // namespace
}  // namespace switchyard::kernels::SW_ISA
