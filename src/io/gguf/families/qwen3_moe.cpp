// Qwen3-MoE: experts in every layer. GGUF has no key for norm_topk_prob: readers renormalise.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

GgufFamily gguf_family_qwen3_moe() {
  return {.model_type = "qwen3_moe",
          .hf_class = "Qwen3MoeForCausalLM",
          .architecture = "qwen3moe",
          .names = decoder_rows(layer_rows(Arrange::plain, Arrange::plain, joined(qk_norm_rows(), expert_rows()))),
          .keys = decoder_keys({{"intermediate_size", "feed_forward_length"},
                                {"num_experts", "expert_count"},
                                {"num_experts_per_tok", "expert_used_count"},
                                {"moe_intermediate_size", "expert_feed_forward_length"},
                                head_dim_key()}),
          .known = usual_extra_keys(),
          .repeats = value_length_too(),
          .read_more = [](const KeyReader&, nlohmann::ordered_json& config) { config["norm_topk_prob"] = true; }};
}

}  // namespace switchyard::io
