// llama without experts.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

GgufFamily gguf_family_llama() {
  return {"llama", "LlamaForCausalLM", "llama", false,
          decoder_rows(layer_rows(Arrange::query_rows, Arrange::key_rows,
                                  {{"blk.{i}.ffn_gate.weight", "model.layers.{i}.mlp.gate_proj.weight"},
                                   {"blk.{i}.ffn_up.weight", "model.layers.{i}.mlp.up_proj.weight"},
                                   {"blk.{i}.ffn_down.weight", "model.layers.{i}.mlp.down_proj.weight"}})),
          decoder_keys({{"intermediate_size", "feed_forward_length"}, {"head_dim", "attention.key_length", KeyType::size, true}}), usual_extra_keys(),
          {{"attention.value_length", "attention.key_length"}, {"rope.dimension_count", "attention.key_length"}}};
}

}  // namespace switchyard::io
