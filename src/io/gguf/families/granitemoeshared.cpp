// Granite MoE with a shared expert, whose gate and up rows are one tensor as well.
#include "io/gguf/families/granite_rows.h"

namespace switchyard::io {

GgufFamily gguf_family_granitemoeshared() {
  const std::vector<NameRow> shared = {
      {"blk.{i}.ffn_gate_shexp.weight", "model.layers.{i}.shared_mlp.input_linear.weight", Arrange::first_half},
      {"blk.{i}.ffn_up_shexp.weight", "model.layers.{i}.shared_mlp.input_linear.weight", Arrange::second_half},
      {"blk.{i}.ffn_down_shexp.weight", "model.layers.{i}.shared_mlp.output_linear.weight"},
  };
  return {.model_type = "granitemoeshared",
          .hf_class = "GraniteMoeSharedForCausalLM",
          .architecture = "granitemoe",
          .names = decoder_rows(layer_rows(Arrange::query_rows, Arrange::key_rows, joined(granite_expert_rows(), shared))),
          .keys = joined(granite_keys(), {{"shared_intermediate_size", "expert_shared_feed_forward_length"}}),
          .known = usual_extra_keys(),
          .is = [](const KeyReader& file) { return file.size("expert_shared_feed_forward_length", 0) > 0; },
          .write_more = write_granite_rotary_width};
}

}  // namespace switchyard::io
