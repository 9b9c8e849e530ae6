// Mixtral: architecture llama with experts. Files of before April 2024 hold one tensor per expert.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

GgufFamily gguf_family_mixtral() {
  const std::vector<NameRow> experts = {
      {"blk.{i}.ffn_gate_inp.weight", "model.layers.{i}.block_sparse_moe.gate.weight"},
      {"blk.{i}.ffn_gate_exps.weight", "model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight", Arrange::stack},
      {"blk.{i}.ffn_up_exps.weight", "model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight", Arrange::stack},
      {"blk.{i}.ffn_down_exps.weight", "model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight", Arrange::stack},
      {"blk.{i}.ffn_gate.{e}.weight", "model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight", Arrange::old_expert},
      {"blk.{i}.ffn_up.{e}.weight", "model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight", Arrange::old_expert},
      {"blk.{i}.ffn_down.{e}.weight", "model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight", Arrange::old_expert},
  };
  return {"mixtral", "MixtralForCausalLM", "llama", true, decoder_rows(layer_rows(Arrange::query_rows, Arrange::key_rows, experts)),
          decoder_keys({{"intermediate_size", "feed_forward_length"},
                        {"head_dim", "attention.key_length", KeyType::size, true},
                        {"num_local_experts", "expert_count"},
                        {"num_experts_per_tok", "expert_used_count"}}),
          usual_extra_keys(),
          {{"attention.value_length", "attention.key_length"}, {"rope.dimension_count", "attention.key_length"}}};
}

}  // namespace switchyard::io
