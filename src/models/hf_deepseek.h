// Experts of the DeepSeek line (deepseek, deepseek_v2, deepseek_v3, glm4_moe): keys and tensors.
#pragma once

#include "models/hf_places.h"

namespace switchyard {

// Routed and shared experts: first_k_dense_replace, moe_layer_freq, n_routed_experts, n_shared_experts, n_group, topk_group,
// topk_method, scoring_func, norm_topk_prob, routed_scaling_factor, aux_loss_alpha, seq_aux.
struct DeepseekDefaults {
  std::string scoring = "softmax", method = "greedy";
  int64_t num_experts = 64, num_shared = 2, top_k = 6, first_dense = 0, groups = 1, keep = 1;
  bool renormalise = false;
  double scale = 1;
};
void read_deepseek_experts(HfConfig& config, ModelSpec& spec, const DeepseekDefaults& absent);
void write_deepseek_experts(nlohmann::ordered_json& config, const ModelSpec& spec);
void add_deepseek_network(Places& out, const ModelSpec& spec, int64_t layer, bool stacked);

// Latent attention: q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim.
struct LatentDefaults {
  int64_t q_rank, kv_rank, nope_dim, rope_dim, v_dim;
};
// With scaled positions of type yarn scores are multiplied by the square of 0.1 mscale_all_dim ln(factor) + 1 (arXiv:2405.04434 section
// 3.1.4); `yarn_scores` says whether this family does so.
void read_latent_attention(HfConfig& config, ModelSpec& spec, const LatentDefaults& absent, bool yarn_scores);
void write_latent_attention(nlohmann::ordered_json& config, const ModelSpec& spec);

// Layers of further token prediction behind the last one, which this library does not use.
[[nodiscard]] bool is_extra_prediction(const std::string& stored, const ModelSpec& spec);

}  // namespace switchyard
