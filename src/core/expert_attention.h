// Attention over the experts of a token as a differentiable operation: float32 on our kernel, any other type on ATen.
#pragma once

#include <torch/types.h>

namespace switchyard::ops {

// qkv [U, 3E] = (q, k, v) -> [U, E]:  z_i = sum over j of softmax_j(q_i k_j) v_j. The float32 path never makes a [U, E, E] array.
[[nodiscard]] torch::Tensor expert_attention(const torch::Tensor& qkv);

}  // namespace switchyard::ops
