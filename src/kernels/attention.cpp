#include "kernels/attention.h"

#include "kernels/per_isa.h"

namespace switchyard::kernels {

SW_PER_ISA(void, attention_forward,
           (const AttentionShape&, HeadRows<const float>, HeadRows<const float>, HeadRows<const float>, HeadRows<float>, float*))
SW_PER_ISA(void, attention_decode,
           (const AttentionShape&, HeadRows<const float>, HeadRows<const float>, HeadRows<const float>, HeadRows<float>, float*))
SW_PER_ISA(void, attention_backward,
           (const AttentionShape&, HeadRows<const float>, HeadRows<const float>, HeadRows<const float>, HeadRows<const float>,
            const float*, HeadRows<const float>, const AttentionGradients&))

void attention_forward(const AttentionShape& shape, HeadRows<const float> q, HeadRows<const float> k,
                       HeadRows<const float> v, HeadRows<float> out, float* lse) {
  // Lanes hold queries in the blocked kernel and head dimensions in the decoding one: few queries would leave lanes idle.
  const int64_t rows = shape.queries * (shape.heads / shape.kv_heads);
  const auto run = rows <= 8 ? SW_BEST_VARIANT(attention_decode) : SW_BEST_VARIANT(attention_forward);
  run(shape, q, k, v, out, lse);
}

void attention_backward(const AttentionShape& shape, HeadRows<const float> q, HeadRows<const float> k,
                        HeadRows<const float> v, HeadRows<const float> out, const float* lse,
                        HeadRows<const float> dout, const AttentionGradients& gradients) {
  SW_BEST_VARIANT(attention_backward)(shape, q, k, v, out, lse, dout, gradients);
}

}  // namespace switchyard::kernels
