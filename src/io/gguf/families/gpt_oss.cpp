// gpt-oss: biases everywhere, sinks in attention, experts with interleaved gate and up columns.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {
namespace {

const std::vector<NameRow>& layer() {
  static const std::vector<NameRow> rows = {
      {"blk.{i}.attn_norm.weight", "model.layers.{i}.input_layernorm.weight"},
      {"blk.{i}.attn_q.weight", "model.layers.{i}.self_attn.q_proj.weight"},
      {"blk.{i}.attn_q.bias", "model.layers.{i}.self_attn.q_proj.bias"},
      {"blk.{i}.attn_k.weight", "model.layers.{i}.self_attn.k_proj.weight"},
      {"blk.{i}.attn_k.bias", "model.layers.{i}.self_attn.k_proj.bias"},
      {"blk.{i}.attn_v.weight", "model.layers.{i}.self_attn.v_proj.weight"},
      {"blk.{i}.attn_v.bias", "model.layers.{i}.self_attn.v_proj.bias"},
      {"blk.{i}.attn_output.weight", "model.layers.{i}.self_attn.o_proj.weight"},
      {"blk.{i}.attn_output.bias", "model.layers.{i}.self_attn.o_proj.bias"},
      {"blk.{i}.attn_sinks.weight", "model.layers.{i}.self_attn.sinks"},
      {"blk.{i}.post_attention_norm.weight", "model.layers.{i}.post_attention_layernorm.weight"},
      {"blk.{i}.ffn_gate_inp.weight", "model.layers.{i}.mlp.router.weight"},
      {"blk.{i}.ffn_gate_inp.bias", "model.layers.{i}.mlp.router.bias"},
      {"blk.{i}.ffn_gate_exps.weight", "model.layers.{i}.mlp.experts.gate_up_proj", Arrange::even_columns},
      {"blk.{i}.ffn_up_exps.weight", "model.layers.{i}.mlp.experts.gate_up_proj", Arrange::odd_columns},
      {"blk.{i}.ffn_gate_exps.bias", "model.layers.{i}.mlp.experts.gate_up_proj_bias", Arrange::even_columns},
      {"blk.{i}.ffn_up_exps.bias", "model.layers.{i}.mlp.experts.gate_up_proj_bias", Arrange::odd_columns},
      {"blk.{i}.ffn_down_exps.weight", "model.layers.{i}.mlp.experts.down_proj", Arrange::transposed},
      {"blk.{i}.ffn_down_exps.bias", "model.layers.{i}.mlp.experts.down_proj_bias"},
  };
  return rows;
}

// GGUF has no key for it: published models do not round the bounds of yarn.
void read_gpt_oss(const KeyReader&, nlohmann::ordered_json& config) {
  if (config.contains("rope_scaling") && config["rope_scaling"]["rope_type"] == "yarn")
    config["rope_scaling"]["truncate"] = false;
}

}  // namespace

GgufFamily gguf_family_gpt_oss() {
  return {.model_type = "gpt_oss",
          .hf_class = "GptOssForCausalLM",
          .architecture = "gpt-oss",
          .names = decoder_rows(layer()),
          .keys = decoder_keys({{"intermediate_size", "expert_feed_forward_length"},
                                {"num_local_experts", "expert_count"},
                                {"num_experts_per_tok", "expert_used_count"},
                                {"sliding_window", "attention.sliding_window"},
                                head_dim_key()}),
          .known = {"vocab_size", "rope.dimension_count", "attention.value_length", "feed_forward_length"},
          .repeats = {{"attention.value_length", "attention.key_length"}, {"feed_forward_length", "expert_feed_forward_length"}},
          .read_more = read_gpt_oss};
}

}  // namespace switchyard::io
