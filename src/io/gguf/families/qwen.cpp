// Qwen2-MoE (Qwen1.5-MoE) and Qwen3-MoE.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {
namespace {

std::vector<NameRow> expert_rows() {
  return {{"blk.{i}.ffn_gate_inp.weight", "model.layers.{i}.mlp.gate.weight", Arrange::plain, true},
          {"blk.{i}.ffn_gate_exps.weight", "model.layers.{i}.mlp.experts.{e}.gate_proj.weight", Arrange::stack, true},
          {"blk.{i}.ffn_up_exps.weight", "model.layers.{i}.mlp.experts.{e}.up_proj.weight", Arrange::stack, true},
          {"blk.{i}.ffn_down_exps.weight", "model.layers.{i}.mlp.experts.{e}.down_proj.weight", Arrange::stack, true}};
}

std::vector<KeyRow> expert_keys() {
  return {{"intermediate_size", "feed_forward_length"},
          {"num_experts", "expert_count"},
          {"num_experts_per_tok", "expert_used_count"},
          {"moe_intermediate_size", "expert_feed_forward_length"}};
}

}  // namespace

GgufFamily gguf_family_qwen2_moe() {
  auto rows = layer_rows(Arrange::plain, Arrange::plain, {{"blk.{i}.attn_q.bias", "model.layers.{i}.self_attn.q_proj.bias"},
                                                          {"blk.{i}.attn_k.bias", "model.layers.{i}.self_attn.k_proj.bias"},
                                                          {"blk.{i}.attn_v.bias", "model.layers.{i}.self_attn.v_proj.bias"}});
  const auto experts = expert_rows();
  rows.insert(rows.end(), experts.begin(), experts.end());
  rows.push_back({"blk.{i}.ffn_gate_inp_shexp.weight", "model.layers.{i}.mlp.shared_expert_gate.weight", Arrange::plain, true});
  rows.push_back({"blk.{i}.ffn_gate_shexp.weight", "model.layers.{i}.mlp.shared_expert.gate_proj.weight", Arrange::plain, true});
  rows.push_back({"blk.{i}.ffn_up_shexp.weight", "model.layers.{i}.mlp.shared_expert.up_proj.weight", Arrange::plain, true});
  rows.push_back({"blk.{i}.ffn_down_shexp.weight", "model.layers.{i}.mlp.shared_expert.down_proj.weight", Arrange::plain, true});
  auto keys = expert_keys();
  keys.push_back({"shared_expert_intermediate_size", "expert_shared_feed_forward_length"});
  return {"qwen2_moe", "Qwen2MoeForCausalLM", "qwen2moe", true, decoder_rows(rows), decoder_keys(keys), usual_extra_keys(), {}};
}

GgufFamily gguf_family_qwen3_moe() {
  auto rows = layer_rows(Arrange::plain, Arrange::plain, {{"blk.{i}.attn_q_norm.weight", "model.layers.{i}.self_attn.q_norm.weight"},
                                                          {"blk.{i}.attn_k_norm.weight", "model.layers.{i}.self_attn.k_norm.weight"}});
  const auto experts = expert_rows();
  rows.insert(rows.end(), experts.begin(), experts.end());
  auto keys = expert_keys();
  keys.push_back({"head_dim", "attention.key_length"});
  return {"qwen3_moe", "Qwen3MoeForCausalLM", "qwen3moe", true, decoder_rows(rows), decoder_keys(keys), usual_extra_keys(),
          {{"attention.value_length", "attention.key_length"}}};
}

}  // namespace switchyard::io
