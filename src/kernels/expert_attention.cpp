#include "kernels/expert_attention.h"

#include "kernels/per_isa.h"

namespace switchyard::kernels {

SW_PER_ISA(void, expert_attention_forward, (int64_t, int64_t, const float*, float*))
SW_PER_ISA(void, expert_attention_backward, (int64_t, int64_t, const float*, const float*, const float*, float*))

void expert_attention_forward(int64_t tokens, int64_t experts, const float* qkv, float* z) {
  SW_BEST_VARIANT(expert_attention_forward)(tokens, experts, qkv, z);
}

void expert_attention_backward(int64_t tokens, int64_t experts, const float* qkv, const float* z, const float* dz, float* dqkv) {
  SW_BEST_VARIANT(expert_attention_backward)(tokens, experts, qkv, z, dz, dqkv);
}

}  // namespace switchyard::kernels
