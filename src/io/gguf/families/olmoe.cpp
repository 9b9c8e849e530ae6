// OLMoE: norms of queries and keys over all heads; the width in feed_forward_length is that of an expert.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

GgufFamily gguf_family_olmoe() {
  return {.model_type = "olmoe",
          .hf_class = "OlmoeForCausalLM",
          .architecture = "olmoe",
          .names = decoder_rows(layer_rows(Arrange::plain, Arrange::plain, joined(qk_norm_rows(), expert_rows()))),
          .keys = decoder_keys({{"intermediate_size", "feed_forward_length"},
                                {"num_experts", "expert_count"},
                                {"num_experts_per_tok", "expert_used_count"},
                                {"clip_qkv", "attention.clamp_kqv", KeyType::number, true},
                                head_dim_key()}),
          .known = usual_extra_keys(),
          .repeats = value_length_too()};
}

}  // namespace switchyard::io
