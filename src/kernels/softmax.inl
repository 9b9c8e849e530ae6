#include "kernels/softmax.h"
#include "kernels/softmax_row.inl"

namespace switchyard::kernels::SW_ISA {
namespace {

// e[i] = exp(x[i] - base); returns their sum. e may be x.
float row_exp(const float* x, int64_t n, float base, float* e) {
  Floats sum{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Floats each = exp_fast(load(x + i) - base);
    store(e + i, each);
    sum += each;
  }
  if (i < n) {
    const Floats rest = exp_fast(load_first(x + i, n - i) - base);
    store_first(e + i, rest, n - i);
    sum += select(lane_index() < static_cast<int32_t>(n - i), rest, Floats{});
  }
  return sum_lanes(sum);
}

void scale_row(float* x, int64_t n, float by) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(x + i, load(x + i) * by);
  for (; i < n; ++i) x[i] *= by;
}

}  // namespace

void softmax_rows(int64_t rows, int64_t width, MatrixRows<const float> x, MatrixRows<float> p, float* lse) noexcept {
#pragma omp parallel for schedule(static) if (rows * width > 8192)
  for (int64_t r = 0; r < rows; ++r) {
    const float largest = row_max(x.row(r), width), base = largest == -__builtin_inff() ? 0.0f : largest;
    const float sum = p.data ? row_exp(x.row(r), width, base, p.row(r)) : row_sum_exp(x.row(r), width, base);
    if (lse) lse[r] = base + __builtin_logf(sum);
    if (p.data) scale_row(p.row(r), width, sum == 0.0f ? 0.0f : 1.0f / sum);
  }
}

void softmax_rows_backward(int64_t rows, int64_t width, MatrixRows<const float> p, MatrixRows<const float> dp,
                           const float* dlse, MatrixRows<float> dx) noexcept {
#pragma omp parallel for schedule(static) if (rows * width > 8192)
  for (int64_t r = 0; r < rows; ++r) {
    const float* prob = p.row(r);
    const float* grad = dp.data ? dp.row(r) : nullptr;
    float* out = dx.row(r);
    float shift = dlse ? dlse[r] : 0.0f;
    for (int64_t i = 0; grad && i < width; ++i) shift -= prob[i] * grad[i];
    for (int64_t i = 0; i < width; ++i) out[i] = prob[i] * ((grad ? grad[i] : 0.0f) + shift);
  }
}

}  // namespace switchyard::kernels::SW_ISA
