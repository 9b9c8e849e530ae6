// Qwen2: Llama with biases on queries, keys and values.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

GgufFamily gguf_family_qwen2() {
  return {.model_type = "qwen2",
          .hf_class = "Qwen2ForCausalLM",
          .architecture = "qwen2",
          .names = decoder_rows(layer_rows(Arrange::plain, Arrange::plain, joined(qkv_bias_rows(), dense_rows()))),
          .keys = decoder_keys({{"intermediate_size", "feed_forward_length"}, head_dim_key()}),
          .known = usual_extra_keys(),
          .repeats = value_length_too()};
}

}  // namespace switchyard::io
