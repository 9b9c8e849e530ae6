// llama without experts.
#include "io/gguf/families/common_rows.h"
#include "io/gguf/gguf_rope.h"

namespace switchyard::io {

GgufFamily gguf_family_llama() {
  return {.model_type = "llama",
          .hf_class = "LlamaForCausalLM",
          .architecture = "llama",
          .names = decoder_rows(layer_rows(Arrange::query_rows, Arrange::key_rows, dense_rows())),
          .keys = decoder_keys({{"intermediate_size", "feed_forward_length"}, head_dim_key(), vocab_size_key()}),
          .known = usual_extra_keys(),
          .repeats = value_length_too(),
          .is = [](const KeyReader& file) { return !has_experts(file); },
          .write_more = write_rotary_width,
          .read_more = read_rope_divisors,
          .config_tensors = {kRopeDivisors},
          .config_tensor = rope_divisor_tensor};
}

}  // namespace switchyard::io
