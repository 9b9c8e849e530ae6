// Attention over the experts of a token, where queries, keys and values are one number per expert (arXiv:2405.17976
// section 2.2):  A_ij = softmax over j of (q_i k_j),   z_i = sum_j A_ij v_j. A is never stored.
#pragma once

#include <cstdint>

namespace switchyard::kernels {

// qkv [tokens, 3 * experts] = (q, k, v), finite -> z [tokens, experts]. Relative error of A below 1e-6.
void expert_attention_forward(int64_t tokens, int64_t experts, const float* qkv, float* z);

// dqkv [tokens, 3 * experts] is overwritten; z as it came from the forward pass.
void expert_attention_backward(int64_t tokens, int64_t experts, const float* qkv, const float* z, const float* dz, float* dqkv);

}  // namespace switchyard::kernels
