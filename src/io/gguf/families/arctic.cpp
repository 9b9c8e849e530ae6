// Arctic: a dense network in every layer, whose norm is ffn_norm, and experts with a norm of their own.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

GgufFamily gguf_family_arctic() {
  const std::vector<NameRow> layer = {
      {"blk.{i}.attn_norm.weight", "model.layers.{i}.input_layernorm.weight"},
      {"blk.{i}.attn_q.weight", "model.layers.{i}.self_attn.q_proj.weight", Arrange::query_rows},
      {"blk.{i}.attn_k.weight", "model.layers.{i}.self_attn.k_proj.weight", Arrange::key_rows},
      {"blk.{i}.attn_v.weight", "model.layers.{i}.self_attn.v_proj.weight"},
      {"blk.{i}.attn_output.weight", "model.layers.{i}.self_attn.o_proj.weight"},
      {"blk.{i}.ffn_norm.weight", "model.layers.{i}.residual_layernorm.weight"},
      {"blk.{i}.ffn_gate.weight", "model.layers.{i}.residual_mlp.w1.weight"},
      {"blk.{i}.ffn_up.weight", "model.layers.{i}.residual_mlp.w3.weight"},
      {"blk.{i}.ffn_down.weight", "model.layers.{i}.residual_mlp.w2.weight"},
      {"blk.{i}.ffn_norm_exps.weight", "model.layers.{i}.post_attention_layernorm.weight"},
  };
  return {.model_type = "arctic",
          .hf_class = "ArcticForCausalLM",
          .architecture = "arctic",
          .names = decoder_rows(joined(layer, mixtral_expert_rows())),
          .keys = decoder_keys({{"intermediate_size", "feed_forward_length"},
                                {"num_local_experts", "expert_count"},
                                {"num_experts_per_tok", "expert_used_count"},
                                head_dim_key(),
                                vocab_size_key()}),
          .known = usual_extra_keys(),
          .repeats = value_length_too(),
          .write_more = [](const nlohmann::ordered_json& config, KeyWriter& out) {
            if (const int64_t heads = config.at("num_attention_heads"); heads > 0)
              out.size("rope.dimension_count", config.at("hidden_size").get<int64_t>() / heads);
          }};
}

}  // namespace switchyard::io
