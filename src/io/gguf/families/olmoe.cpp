// OLMoE: norms of queries and keys over all heads; the width in feed_forward_length is that of an expert.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

GgufFamily gguf_family_olmoe() {
  const auto rows = layer_rows(Arrange::plain, Arrange::plain,
                               {{"blk.{i}.attn_q_norm.weight", "model.layers.{i}.self_attn.q_norm.weight"},
                                {"blk.{i}.attn_k_norm.weight", "model.layers.{i}.self_attn.k_norm.weight"},
                                {"blk.{i}.ffn_gate_inp.weight", "model.layers.{i}.mlp.gate.weight"},
                                {"blk.{i}.ffn_gate_exps.weight", "model.layers.{i}.mlp.experts.{e}.gate_proj.weight", Arrange::stack},
                                {"blk.{i}.ffn_up_exps.weight", "model.layers.{i}.mlp.experts.{e}.up_proj.weight", Arrange::stack},
                                {"blk.{i}.ffn_down_exps.weight", "model.layers.{i}.mlp.experts.{e}.down_proj.weight", Arrange::stack}});
  return {"olmoe", "OlmoeForCausalLM", "olmoe", true, decoder_rows(rows),
          decoder_keys({{"intermediate_size", "feed_forward_length"}, {"num_experts", "expert_count"}, {"num_experts_per_tok", "expert_used_count"},
                        {"clip_qkv", "attention.clamp_kqv", KeyType::number, true}}),
          usual_extra_keys(), {}};
}

}  // namespace switchyard::io
