#include "kernels/softmax.h"
#include "kernels/softmax_row.inl"

namespace switchyard::kernels::SW_ISA {

void softmax_rows(int64_t rows, int64_t width, MatrixRows<const float> x, MatrixRows<float> p, float* lse) noexcept {
#pragma omp parallel for schedule(static) if (rows * width > 8192)
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x.row(r);
    const float value = row_lse(in, width);
    if (lse) lse[r] = value;
    if (!p.data) continue;
    float* out = p.row(r);
    const float base = value == -__builtin_inff() ? 0.0f : value;
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) store(out + i, exp_fast(load(in + i) - base));
    if (i < width) store_first(out + i, exp_fast(load_first(in + i, width - i) - base), width - i);
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
