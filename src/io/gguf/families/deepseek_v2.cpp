// DeepSeek-V2: latent attention, leading dense layers, shared experts. kv_b is one tensor, as in files of before 2025; newer ones
// hold its two halves (attn_k_b, attn_v_b), which are refused as unknown tensors.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

GgufFamily gguf_family_deepseek_v2() {
  const std::vector<NameRow> rows = {
      {"blk.{i}.attn_norm.weight", "model.layers.{i}.input_layernorm.weight"},
      {"blk.{i}.attn_q.weight", "model.layers.{i}.self_attn.q_proj.weight", Arrange::plain, true},
      {"blk.{i}.attn_q_a.weight", "model.layers.{i}.self_attn.q_a_proj.weight", Arrange::plain, true},
      {"blk.{i}.attn_q_a_norm.weight", "model.layers.{i}.self_attn.q_a_layernorm.weight", Arrange::plain, true},
      {"blk.{i}.attn_q_b.weight", "model.layers.{i}.self_attn.q_b_proj.weight", Arrange::plain, true},
      {"blk.{i}.attn_kv_a_mqa.weight", "model.layers.{i}.self_attn.kv_a_proj_with_mqa.weight"},
      {"blk.{i}.attn_kv_a_norm.weight", "model.layers.{i}.self_attn.kv_a_layernorm.weight"},
      {"blk.{i}.attn_kv_b.weight", "model.layers.{i}.self_attn.kv_b_proj.weight"},
      {"blk.{i}.attn_output.weight", "model.layers.{i}.self_attn.o_proj.weight"},
      {"blk.{i}.ffn_norm.weight", "model.layers.{i}.post_attention_layernorm.weight"},
      {"blk.{i}.ffn_gate.weight", "model.layers.{i}.mlp.gate_proj.weight", Arrange::plain, true},
      {"blk.{i}.ffn_up.weight", "model.layers.{i}.mlp.up_proj.weight", Arrange::plain, true},
      {"blk.{i}.ffn_down.weight", "model.layers.{i}.mlp.down_proj.weight", Arrange::plain, true},
      {"blk.{i}.ffn_gate_inp.weight", "model.layers.{i}.mlp.gate.weight", Arrange::plain, true},
      {"blk.{i}.exp_probs_b.bias", "model.layers.{i}.mlp.gate.e_score_correction_bias", Arrange::plain, true},
      {"blk.{i}.ffn_gate_exps.weight", "model.layers.{i}.mlp.experts.{e}.gate_proj.weight", Arrange::stack, true},
      {"blk.{i}.ffn_up_exps.weight", "model.layers.{i}.mlp.experts.{e}.up_proj.weight", Arrange::stack, true},
      {"blk.{i}.ffn_down_exps.weight", "model.layers.{i}.mlp.experts.{e}.down_proj.weight", Arrange::stack, true},
      {"blk.{i}.ffn_gate_shexp.weight", "model.layers.{i}.mlp.shared_experts.gate_proj.weight", Arrange::plain, true},
      {"blk.{i}.ffn_up_shexp.weight", "model.layers.{i}.mlp.shared_experts.up_proj.weight", Arrange::plain, true},
      {"blk.{i}.ffn_down_shexp.weight", "model.layers.{i}.mlp.shared_experts.down_proj.weight", Arrange::plain, true},
  };
  return {"deepseek_v2", "DeepseekV2ForCausalLM", "deepseek2", true, decoder_rows(rows),
          decoder_keys({{"intermediate_size", "feed_forward_length"},
                        {"moe_intermediate_size", "expert_feed_forward_length"},
                        {"n_routed_experts", "expert_count"},
                        {"num_experts_per_tok", "expert_used_count"},
                        {"n_shared_experts", "expert_shared_count"},
                        {"first_k_dense_replace", "leading_dense_block_count"},
                        {"routed_scaling_factor", "expert_weights_scale", KeyType::number},
                        {"norm_topk_prob", "expert_weights_norm", KeyType::flag, true},
                        {"q_lora_rank", "attention.q_lora_rank", KeyType::size, true},
                        {"kv_lora_rank", "attention.kv_lora_rank"},
                        {"qk_rope_head_dim", "rope.dimension_count"},
                        {"v_head_dim", "attention.value_length"}}),
          {"vocab_size", "attention.key_length", "tensor_data_layout", "rope.scaling.type"}, {}};
}

}  // namespace switchyard::io
