// Mistral (arXiv:2310.06825): Llama with a window in every layer, or without one.
#include "models/hf_decoder.h"

namespace switchyard {
namespace {

struct Mistral final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 131072, .norm_eps = 1e-6, .rope_theta = 10000});
    s.d_ff = config.size("intermediate_size");
    s.ffn = gated_kind(config);
    set_windows(s, std::vector<int64_t>(static_cast<size_t>(s.num_layers), config.integer("sliding_window", 0)));
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const int64_t window = windows_of(s)[0];
    config["hidden_act"] = hidden_act_of(s.ffn);
    config["intermediate_size"] = s.d_ff;
    config["sliding_window"] = window > 0 ? nlohmann::ordered_json(window) : nlohmann::ordered_json(nullptr);
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool) const override {
    if (s.layer(layer).d_ff) add_dense_places(out, s, layer, fmt::format("model.layers.{}.mlp.", layer));
  }
};

}  // namespace

FamilyEntry family_mistral() {
  return {"mistral", "arXiv:2310.06825", "dense decoder: as llama, with a window", std::make_shared<Mistral>("mistral", "MistralForCausalLM")};
}

}  // namespace switchyard
