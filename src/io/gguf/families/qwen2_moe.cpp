// Qwen2-MoE (Qwen1.5-MoE): a shared expert behind a gate. GGUF has no key for norm_topk_prob: readers do not renormalise.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

GgufFamily gguf_family_qwen2_moe() {
  const std::vector<NameRow> shared = {
      {"blk.{i}.ffn_gate_inp_shexp.weight", "model.layers.{i}.mlp.shared_expert_gate.weight"},
      {"blk.{i}.ffn_gate_shexp.weight", "model.layers.{i}.mlp.shared_expert.gate_proj.weight"},
      {"blk.{i}.ffn_up_shexp.weight", "model.layers.{i}.mlp.shared_expert.up_proj.weight"},
      {"blk.{i}.ffn_down_shexp.weight", "model.layers.{i}.mlp.shared_expert.down_proj.weight"},
  };
  return {
      .model_type = "qwen2_moe",
      .hf_class = "Qwen2MoeForCausalLM",
      .architecture = "qwen2moe",
      .names = decoder_rows(layer_rows(Arrange::plain, Arrange::plain, joined(joined(qkv_bias_rows(), expert_rows()), shared))),
      .keys = decoder_keys({{"intermediate_size", "feed_forward_length"},
                            {"num_experts", "expert_count"},
                            {"num_experts_per_tok", "expert_used_count"},
                            {"moe_intermediate_size", "expert_feed_forward_length"},
                            {"shared_expert_intermediate_size", "expert_shared_feed_forward_length"},
                            head_dim_key()}),
      .known = usual_extra_keys(),
      .repeats = value_length_too(),
      .read_more = [](const KeyReader&, nlohmann::ordered_json& config) { config["norm_topk_prob"] = false; }};
}

}  // namespace switchyard::io
