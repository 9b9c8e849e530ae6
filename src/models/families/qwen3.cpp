// Qwen3 (arXiv:2505.09388): Llama with RMSNorm of every query and key head.
#include "models/hf_decoder.h"
#include "models/hf_windows.h"

namespace switchyard {
namespace {

struct Qwen3 final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 32768, .norm_eps = 1e-6, .rope_theta = 10000});
    s.d_ff = config.size("intermediate_size");
    s.ffn = gated_kind(config);
    const bool bias = config.flag("attention_bias", false);
    s.mixer = {"attention", {{"qk_norm", "head"}, {"qkv_bias", bias}, {"o_bias", bias}}};
    read_qwen_windows(config, s);
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    config["attention_bias"] = option_of(s.mixer, "qkv_bias", false);
    config["hidden_act"] = hidden_act_of(s.ffn);
    config["intermediate_size"] = s.d_ff;
    write_qwen_windows(config, s);
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool) const override {
    if (s.layer(layer).d_ff) add_dense_places(out, s, layer, fmt::format("model.layers.{}.mlp.", layer));
  }
};

}  // namespace

FamilyEntry family_qwen3() {
  return {"qwen3", "arXiv:2505.09388", "dense decoder: as llama, with a norm of every query and key head", std::make_shared<Qwen3>("qwen3", "Qwen3ForCausalLM")};
}

}  // namespace switchyard
