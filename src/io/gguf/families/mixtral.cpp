// Mixtral: architecture llama with experts. Files of before April 2024 hold one tensor per expert.
#include "io/gguf/families/common_rows.h"
#include "io/gguf/gguf_rope.h"

namespace switchyard::io {

GgufFamily gguf_family_mixtral() {
  const std::vector<NameRow> old_experts = {
      {"blk.{i}.ffn_gate.{e}.weight", "model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight", Arrange::old_expert},
      {"blk.{i}.ffn_up.{e}.weight", "model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight", Arrange::old_expert},
      {"blk.{i}.ffn_down.{e}.weight", "model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight", Arrange::old_expert},
  };
  return {.model_type = "mixtral",
          .hf_class = "MixtralForCausalLM",
          .architecture = "llama",
          .names = decoder_rows(layer_rows(Arrange::query_rows, Arrange::key_rows, joined(mixtral_expert_rows(), old_experts))),
          .keys = decoder_keys({{"intermediate_size", "feed_forward_length"},
                                {"num_local_experts", "expert_count"},
                                {"num_experts_per_tok", "expert_used_count"},
                                head_dim_key(),
                                vocab_size_key()}),
          .known = usual_extra_keys(),
          .repeats = value_length_too(),
          .is = has_experts,
          .write_more = write_rotary_width,
          .read_more = read_rope_divisors,
          .config_tensors = {kRopeDivisors},
          .config_tensor = rope_divisor_tensor};
}

}  // namespace switchyard::io
