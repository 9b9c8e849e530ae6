#include "kernels/cross_entropy.h"

#include "kernels/per_isa.h"

namespace switchyard::kernels {

SW_PER_ISA(void, cross_entropy_forward,
           (int64_t, int64_t, MatrixRows<const float>, const int64_t*, const float*, float*, float*))
SW_PER_ISA(void, cross_entropy_backward,
           (int64_t, int64_t, MatrixRows<const float>, const int64_t*, const float*, const float*, float, MatrixRows<float>))

int64_t first_label_outside(int64_t tokens, int64_t vocab_size, const int64_t* labels) noexcept {
  for (int64_t t = 0; t < tokens; ++t)
    if (labels[t] >= vocab_size) return t;
  return -1;
}

void cross_entropy_forward(int64_t tokens, int64_t vocab_size, MatrixRows<const float> logits, const int64_t* labels,
                           const float* weight, float* loss, float* lse) {
  SW_BEST_VARIANT(cross_entropy_forward)(tokens, vocab_size, logits, labels, weight, loss, lse);
}

void cross_entropy_backward(int64_t tokens, int64_t vocab_size, MatrixRows<const float> logits, const int64_t* labels,
                            const float* weight, const float* lse, float scale, MatrixRows<float> dlogits) {
  SW_BEST_VARIANT(cross_entropy_backward)(tokens, vocab_size, logits, labels, weight, lse, scale, dlogits);
}

}  // namespace switchyard::kernels
