// DeepSeek-V2 and V3 share one architecture: latent attention whose kv_b is split into keys (transposed) and values since 2025,
// when files began to say the widths of heads as attention.key_length_mla and value_length_mla. Older files are read.
#pragma once

#include "io/gguf/families/gating.h"

namespace switchyard::io {

// Names and rows; `is` and `write_more` are left to the family.
[[nodiscard]] GgufFamily latent_family(std::string_view model_type, std::string_view hf_class);
// `scoring`, `renormalise`: what a config.json without scoring_func and norm_topk_prob means.
void write_latent_keys(const nlohmann::ordered_json& config, const std::string& scoring, bool renormalise, KeyWriter& out);
void read_latent_keys(const KeyReader& file, nlohmann::ordered_json& config);

}  // namespace switchyard::io
