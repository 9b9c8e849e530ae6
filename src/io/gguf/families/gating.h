// Keys and tensors of the DeepSeek line of routers: experts beside shared ones behind leading dense layers, groups, scaled
// weights.
#pragma once

#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

// Values of expert_gating_func.
inline constexpr int64_t kSoftmaxGating = 1, kSigmoidGating = 2;

inline std::vector<KeyRow> routing_keys() {
  return {{"moe_intermediate_size", "expert_feed_forward_length"},
          {"n_routed_experts", "expert_count"},
          {"num_experts_per_tok", "expert_used_count"},
          {"n_shared_experts", "expert_shared_count"},
          {"first_k_dense_replace", "leading_dense_block_count"},
          {"n_group", "expert_group_count", KeyType::size, true},
          {"topk_group", "expert_group_used_count", KeyType::size, true},
          {"routed_scaling_factor", "expert_weights_scale", KeyType::number, true},
          {"norm_topk_prob", "expert_weights_norm", KeyType::flag, true}};
}

// A bias on the choice (absent in some), and the shared experts as one.
inline std::vector<NameRow> shared_expert_rows() {
  return {{"blk.{i}.exp_probs_b.bias", "model.layers.{i}.mlp.gate.e_score_correction_bias", Arrange::plain, true},
          {"blk.{i}.ffn_gate_shexp.weight", "model.layers.{i}.mlp.shared_experts.gate_proj.weight", Arrange::plain, true},
          {"blk.{i}.ffn_up_shexp.weight", "model.layers.{i}.mlp.shared_experts.up_proj.weight", Arrange::plain, true},
          {"blk.{i}.ffn_down_shexp.weight", "model.layers.{i}.mlp.shared_experts.down_proj.weight", Arrange::plain, true}};
}

}  // namespace switchyard::io
