// Experts of the Qwen line: keys and tensors.
#pragma once

#include "models/hf_places.h"

namespace switchyard {

struct QwenDefaults {
  int64_t num_experts, top_k;
};
void read_qwen_experts(HfConfig& config, ModelSpec& spec, const QwenDefaults& absent);
void write_qwen_experts(nlohmann::ordered_json& config, const ModelSpec& spec);
void add_qwen_network(Places& out, const ModelSpec& spec, int64_t layer, bool stacked);

}  // namespace switchyard
