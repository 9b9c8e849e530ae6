// Qwen2 (arXiv:2407.10671): Llama with biases on queries, keys and values. With use_sliding_window the layers from max_window_layers
// on see a window; `layer_types` says it layer by layer and has precedence.
#include "models/hf_decoder.h"
#include "models/hf_windows.h"

namespace switchyard {
namespace {

struct Qwen2 final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 32768, .norm_eps = 1e-6, .rope_theta = 10000});
    s.d_ff = config.size("intermediate_size");
    s.ffn = gated_kind(config);
    s.mixer = {"attention", {{"qkv_bias", true}}};
    read_qwen_windows(config, s);
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    config["hidden_act"] = hidden_act_of(s.ffn);
    config["intermediate_size"] = s.d_ff;
    write_qwen_windows(config, s);
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool) const override {
    if (s.layer(layer).d_ff) add_dense_places(out, s, layer, fmt::format("model.layers.{}.mlp.", layer));
  }
};

}  // namespace

FamilyEntry family_qwen2() {
  return {"qwen2", "arXiv:2407.10671", "dense decoder: as llama, with biases on queries, keys and values", std::make_shared<Qwen2>("qwen2", "Qwen2ForCausalLM")};
}

}  // namespace switchyard
