#include "kernels/cross_entropy.h"
#include "kernels/softmax_row.inl"

namespace switchyard::kernels::SW_ISA {

void cross_entropy_forward(int64_t tokens, int64_t vocab_size, MatrixRows<const float> logits, const int64_t* labels,
                           const float* weight, float* loss, float* lse) noexcept {
#pragma omp parallel for schedule(static) if (tokens * vocab_size > 8192)
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = logits.row(t);
    lse[t] = row_lse(row, vocab_size);
    loss[t] = labels[t] < 0 ? 0.0f : (weight ? weight[t] : 1.0f) * (lse[t] - row[labels[t]]);
  }
}

void cross_entropy_backward(int64_t tokens, int64_t vocab_size, MatrixRows<const float> logits, const int64_t* labels,
                            const float* weight, const float* lse, float scale, MatrixRows<float> dlogits) noexcept {
#pragma omp parallel for schedule(static) if (tokens * vocab_size > 8192)
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = logits.row(t);
    float* out = dlogits.row(t);
    const float factor = weight ? weight[t] * scale : scale;
    int64_t v = 0;
    if (labels[t] < 0) {
      for (; v < vocab_size; ++v) out[v] = 0.0f;
      continue;
    }
    for (; v + kLanes <= vocab_size; v += kLanes) store(out + v, exp_fast(load(row + v) - lse[t]) * factor);
    if (v < vocab_size)
      store_first(out + v, exp_fast(load_first(row + v, vocab_size - v) - lse[t]) * factor, vocab_size - v);
    out[labels[t]] -= factor;
  }
}

}  // namespace switchyard::kernels::SW_ISA
