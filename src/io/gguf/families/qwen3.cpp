// Qwen3: a norm of every query and key head.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

GgufFamily gguf_family_qwen3() {
  return {.model_type = "qwen3",
          .hf_class = "Qwen3ForCausalLM",
          .architecture = "qwen3",
          .names = decoder_rows(layer_rows(Arrange::plain, Arrange::plain, joined(qk_norm_rows(), dense_rows()))),
          .keys = decoder_keys({{"intermediate_size", "feed_forward_length"}, head_dim_key()}),
          .known = usual_extra_keys(),
          .repeats = value_length_too()};
}

}  // namespace switchyard::io
