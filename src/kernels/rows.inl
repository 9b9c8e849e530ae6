#include "kernels/rows.h"
#include "kernels/simd.h"

namespace switchyard::kernels::SW_ISA {
namespace {

constexpr int64_t kColumns = 64;  // that one task of scatter_add_rows owns, for all rows

// to[i] = factor * from[i], or to[i] += factor * from[i]
inline void set_scaled(int64_t n, const float* from, float factor, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, load(from + i) * factor);
  for (; i < n; ++i) to[i] = from[i] * factor;
}

inline void add_scaled(int64_t n, const float* from, float factor, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, load(to + i) + load(from + i) * factor);
  for (; i < n; ++i) to[i] += from[i] * factor;
}

inline float dot(int64_t n, const float* a, const float* b) {
  Floats sum{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum += load(a + i) * load(b + i);
  if (i < n) sum += load_first(a + i, n - i) * load_first(b + i, n - i);
  return sum_lanes(sum);
}

}  // namespace

void scatter_add_rows(int64_t rows, int64_t width, MatrixRows<const float> from, const int64_t* index,
                      MatrixRows<float> to) noexcept {
#pragma omp parallel for schedule(static) if (rows * width > 16384)
  for (int64_t first = 0; first < width; first += kColumns) {
    const int64_t columns = width - first < kColumns ? width - first : kColumns;
    for (int64_t r = 0; r < rows; ++r) add_scaled(columns, from.row(r) + first, 1.0f, to.row(index[r]) + first);
  }
}

void scatter_add_scaled_rows(int64_t tokens, int64_t k, int64_t width, MatrixRows<const float> x, const float* weights, const int64_t* index,
                             MatrixRows<float> to) noexcept {
#pragma omp parallel for schedule(static) if (tokens * k * width > 16384)
  for (int64_t first = 0; first < width; first += kColumns) {
    const int64_t columns = width - first < kColumns ? width - first : kColumns;
    for (int64_t c = 0; c < tokens * k; ++c) add_scaled(columns, x.row(c / k) + first, weights[c], to.row(index[c]) + first);
  }
}

// weights null: all 1.
void combine_rows(int64_t tokens, int64_t k, int64_t width, MatrixRows<const float> rows, const int64_t* row_of_choice,
                  const float* weights, bool add, MatrixRows<float> y) noexcept {
#pragma omp parallel for schedule(static) if (tokens * k * width > 16384)
  for (int64_t t = 0; t < tokens; ++t) {
    bool started = add;
    for (int64_t choice = t * k; choice < (t + 1) * k; ++choice) {
      if (row_of_choice[choice] < 0) continue;
      const float weight = weights ? weights[choice] : 1.0f;
      (started ? add_scaled : set_scaled)(width, rows.row(row_of_choice[choice]), weight, y.row(t));
      started = true;
    }
    for (int64_t d = 0; !started && d < width; ++d) y.row(t)[d] = 0.0f;
  }
}

void combine_rows_backward(int64_t tokens, int64_t k, int64_t width, MatrixRows<const float> dy,
                           MatrixRows<const float> rows, const int64_t* row_of_choice, const float* weights,
                           MatrixRows<float> drows, float* dweights) noexcept {
#pragma omp parallel for schedule(static) if (tokens * k * width > 16384)
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t choice = t * k; choice < (t + 1) * k; ++choice) {
      const int64_t r = row_of_choice[choice];
      if (dweights) dweights[choice] = r < 0 ? 0.0f : dot(width, dy.row(t), rows.row(r));
      if (drows.data && r >= 0) set_scaled(width, dy.row(t), weights[choice], drows.row(r));
    }
}

}  // namespace switchyard::kernels::SW_ISA
