#include "kernels/adamw.h"
#include "kernels/adamw_terms.h"
#include "kernels/scratch.h"
#include "kernels/simd.h"

namespace switchyard::kernels::SW_ISA {
namespace {

constexpr int64_t kChunk = 16384;  // elements that one thread takes at a time; the unit of the fixed summation order

typedef double Doubles __attribute__((vector_size(kLanes * 4)));  // as wide as Floats, so half as many lanes
typedef float HalfFloats __attribute__((vector_size(kLanes * 2), aligned(4), may_alias));
constexpr int kHalf = kLanes / 2;

inline int64_t chunk_end(int64_t chunk, int64_t n) { return (chunk + 1) * kChunk < n ? (chunk + 1) * kChunk : n; }

struct State {
  Floats param, m, v;
};

inline State step_of(const AdamWTerms& a, Floats grad, const State& old) {
  const Floats g = grad * a.grad_scale;
  State now;
  now.m = old.m * a.beta1 + g * a.one_minus_beta1;
  now.v = old.v * a.beta2 + g * g * a.one_minus_beta2;
  now.param = old.param * a.keep - a.rate * (now.m / (sqrt(now.v) * a.inverse_root_correction2 + a.eps));
  return now;
}

inline double chunk_sum_of_squares(const float* x, int64_t n) {
  Doubles sum[4] = {};
  int64_t i = 0;
  for (; i + 4 * kHalf <= n; i += 4 * kHalf)
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      const Doubles wide = __builtin_convertvector(*reinterpret_cast<const HalfFloats*>(x + i + u * kHalf), Doubles);
      sum[u] += wide * wide;
    }
  const Doubles joined = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  double total = 0.0;
  for (int lane = 0; lane < kHalf; ++lane) total += joined[lane];
  for (; i < n; ++i) total += static_cast<double>(x[i]) * x[i];
  return total;
}

// Whether any value of the chunk has all exponent bits set.
inline bool has_non_finite(const float* x, int64_t n) {
  Ints bad{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) bad |= (bits_of(load(x + i)) & 0x7f800000) == 0x7f800000;
  if (i < n) bad |= (bits_of(load_first(x + i, n - i)) & 0x7f800000) == 0x7f800000;
  int32_t any = 0;
  for (int lane = 0; lane < kLanes; ++lane) any |= bad[lane];
  return any != 0;
}

}  // namespace

void adamw_step(const AdamWTerms& terms, int64_t n, const float* grad, float* param, float* m, float* v) noexcept {
  const int64_t chunks = (n + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(static) if (chunks > 1)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t end = chunk_end(chunk, n);
    int64_t i = chunk * kChunk;
    for (; i + kLanes <= end; i += kLanes) {
      const State now = step_of(terms, load(grad + i), {load(param + i), load(m + i), load(v + i)});
      store(param + i, now.param), store(m + i, now.m), store(v + i, now.v);
    }
    if (const int64_t rest = end - i; rest > 0) {
      const State now = step_of(terms, load_first(grad + i, rest),
                                {load_first(param + i, rest), load_first(m + i, rest), load_first(v + i, rest)});
      store_first(param + i, now.param, rest), store_first(m + i, now.m, rest), store_first(v + i, now.v, rest);
    }
  }
}

double sum_of_squares(int64_t n, const float* x) noexcept {
  const int64_t chunks = (n + kChunk - 1) / kChunk;
  double* partial = reinterpret_cast<double*>(thread_scratch(ScratchUse::shared, 2 * chunks));
#pragma omp parallel for schedule(static) if (chunks > 1)
  for (int64_t chunk = 0; chunk < chunks; ++chunk)
    partial[chunk] = chunk_sum_of_squares(x + chunk * kChunk, chunk_end(chunk, n) - chunk * kChunk);
  double total = 0.0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) total += partial[chunk];
  return total;
}

int64_t first_non_finite(int64_t n, const float* x) noexcept {
  const int64_t chunks = (n + kChunk - 1) / kChunk;
  int64_t first = chunks;
#pragma omp parallel for schedule(static) reduction(min : first) if (chunks > 1)
  for (int64_t chunk = 0; chunk < chunks; ++chunk)
    if (chunk < first && has_non_finite(x + chunk * kChunk, chunk_end(chunk, n) - chunk * kChunk)) first = chunk;
  for (int64_t i = first * kChunk; i < n; ++i)
    if (has_non_finite(x + i, 1)) return i;
  return -1;
}

}  // namespace switchyard::kernels::SW_ISA
