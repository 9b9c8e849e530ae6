// What Granite 3.0 MoE has with a shared expert and without: gate and up rows of all experts in one tensor; multipliers of
// embedding, residual, attention and logits.
#pragma once

#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

inline std::vector<NameRow> granite_expert_rows() {
  return {{"blk.{i}.ffn_gate_inp.weight", "model.layers.{i}.block_sparse_moe.router.layer.weight"},
          {"blk.{i}.ffn_gate_exps.weight", "model.layers.{i}.block_sparse_moe.input_linear.weight", Arrange::first_half},
          {"blk.{i}.ffn_up_exps.weight", "model.layers.{i}.block_sparse_moe.input_linear.weight", Arrange::second_half},
          {"blk.{i}.ffn_down_exps.weight", "model.layers.{i}.block_sparse_moe.output_linear.weight"}};
}

inline std::vector<KeyRow> granite_keys() {
  return decoder_keys({{"intermediate_size", "feed_forward_length"},
                       {"num_local_experts", "expert_count"},
                       {"num_experts_per_tok", "expert_used_count"},
                       {"attention_multiplier", "attention.scale", KeyType::number},
                       {"embedding_multiplier", "embedding_scale", KeyType::number},
                       {"residual_multiplier", "residual_scale", KeyType::number},
                       {"logits_scaling", "logit_scale", KeyType::number},
                       vocab_size_key()});
}

// Not from head_dim: other programs pay no heed to that key in this family.
inline void write_granite_rotary_width(const nlohmann::ordered_json& config, KeyWriter& out) {
  if (const int64_t heads = config.at("num_attention_heads"); heads > 0)
    out.size("rope.dimension_count", config.at("hidden_size").get<int64_t>() / heads);
}

}  // namespace switchyard::io
