#include "kernels/simd.h"

namespace switchyard::kernels::SW_ISA {
namespace {

constexpr int64_t kPair = kLanes / 2;  // doubles of a vector
typedef double Doubles __attribute__((vector_size(kLanes * 4)));
typedef double DoublesAnywhere __attribute__((vector_size(kLanes * 4), aligned(8), may_alias));

inline Doubles load_doubles(const double* p) { return *reinterpret_cast<const DoublesAnywhere*>(p); }

inline double dot(int64_t n, const double* a, const double* b) {
  Doubles sum{};
  int64_t i = 0;
  for (; i + kPair <= n; i += kPair) sum += load_doubles(a + i) * load_doubles(b + i);
  double total = 0;
  for (int lane = 0; lane < kPair; ++lane) total += sum[lane];
  for (; i < n; ++i) total += a[i] * b[i];
  return total;
}

inline void add_scaled(int64_t n, const double* from, double factor, double* to) {
  const Doubles f = factor - Doubles{};
  int64_t i = 0;
  for (; i + kPair <= n; i += kPair) *reinterpret_cast<DoublesAnywhere*>(to + i) = load_doubles(to + i) + load_doubles(from + i) * f;
  for (; i < n; ++i) to[i] += from[i] * factor;
}

}  // namespace

// A round over some rows: how far their sums under the scales at hand are from 1, the next row scales, and what the rows then
// contribute to the columns.
double sinkhorn_rows(int64_t rows, int64_t columns, const double* m, const double* column_scale, const double* row_scale, double* next_scale,
                     double* column_sums) noexcept {
  double furthest = 0;
  for (int64_t c = 0; c < columns; ++c) column_sums[c] = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const double sum = dot(columns, m + r * columns, column_scale), miss = row_scale[r] * sum - 1, far = miss < 0 ? -miss : miss;
    if (!(far <= furthest)) furthest = far;
    next_scale[r] = 1 / sum;
    add_scaled(columns, m + r * columns, next_scale[r], column_sums);
  }
  return furthest;
}

}  // namespace switchyard::kernels::SW_ISA
