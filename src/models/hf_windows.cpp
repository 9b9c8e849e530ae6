#include "models/hf_windows.h"

#include "models/hf_config.h"
#include "models/hf_places.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard {

void read_qwen_windows(HfConfig& config, ModelSpec& s) {
  const bool used = config.flag("use_sliding_window", false);
  const auto window = static_cast<int64_t>(config.number("sliding_window", 0.0));
  const int64_t from = config.integer("max_window_layers", 28);
  const auto types = config.texts("layer_types");
  if (!types.empty() && static_cast<int64_t>(types.size()) != s.num_layers)
    fail(ErrorKind::config, "config.json: layer_types has {} entries, expected num_hidden_layers = {}", types.size(), s.num_layers);
  std::vector<int64_t> windows;
  for (int64_t i = 0; i < s.num_layers; ++i) {
    bool sliding = used && window > 0 && i >= from;
    if (!types.empty()) {
      const auto& type = types[static_cast<size_t>(i)];
      if (type != "full_attention" && type != "sliding_attention")
        fail(ErrorKind::unsupported, "config.json: layer_types[{}] = '{}', expected full_attention or sliding_attention", i, type);
      sliding = type == "sliding_attention";
      if (sliding && window <= 0) fail(ErrorKind::config, "config.json: layer_types[{}] = 'sliding_attention', but sliding_window = {}", i, window);
    }
    windows.push_back(sliding ? window : 0);
  }
  set_windows(s, windows);
}

void write_qwen_windows(nlohmann::ordered_json& config, const ModelSpec& s) {
  const auto windows = windows_of(s);
  const int64_t window = *std::max_element(windows.begin(), windows.end());
  auto types = nlohmann::ordered_json::array();
  for (const int64_t w : windows) types.push_back(w > 0 ? "sliding_attention" : "full_attention");
  config["layer_types"] = types;
  config["max_window_layers"] = std::find_if(windows.begin(), windows.end(), [](int64_t w) { return w > 0; }) - windows.begin();
  config["sliding_window"] = window > 0 ? nlohmann::ordered_json(window) : nlohmann::ordered_json(nullptr);
  config["use_sliding_window"] = window > 0;
}

}  // namespace switchyard
