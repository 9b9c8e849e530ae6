// Windows of the Qwen line: use_sliding_window, sliding_window, max_window_layers, layer_types.
#pragma once

#include <nlohmann/json.hpp>

namespace switchyard {

class HfConfig;
struct ModelSpec;

void read_qwen_windows(HfConfig& config, ModelSpec& spec);
void write_qwen_windows(nlohmann::ordered_json& config, const ModelSpec& spec);

}  // namespace switchyard
