// gpt-oss: biases everywhere, sinks in attention, experts with interleaved gate and up columns.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

GgufFamily gguf_family_gpt_oss() {
  const std::vector<NameRow> rows = {
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
  return {"gpt_oss", "GptOssForCausalLM", "gpt-oss", true, decoder_rows(rows),
          decoder_keys({{"intermediate_size", "expert_feed_forward_length"},
                        {"num_local_experts", "expert_count"},
                        {"num_experts_per_tok", "expert_used_count"},
                        {"head_dim", "attention.key_length"},
                        {"sliding_window", "attention.sliding_window"}}),
          {"vocab_size", "rope.dimension_count", "attention.value_length", "feed_forward_length"}, {{"attention.value_length", "attention.key_length"}}};
}

}  // namespace switchyard::io
