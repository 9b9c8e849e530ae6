// Llama: the dense member of the line (arXiv:2302.13971; grouped queries arXiv:2307.09288; stretched positions arXiv:2407.21783).
#include "models/hf_decoder.h"

namespace switchyard {
namespace {

struct Llama final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 2048, .norm_eps = 1e-6, .rope_theta = 10000});
    s.d_ff = config.size("intermediate_size");
    s.ffn = gated_kind(config);
    if (config.flag("attention_bias", false)) s.mixer = {"attention", {{"qkv_bias", true}, {"o_bias", true}}};
    if (config.flag("mlp_bias", false)) s.ffn = {s.ffn.kind, {{"bias", true}}};
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    config["attention_bias"] = option_of(s.mixer, "qkv_bias", false);
    config["hidden_act"] = hidden_act_of(s.ffn);
    config["intermediate_size"] = s.d_ff;
    config["mlp_bias"] = option_of(s.ffn, "bias", false);
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool) const override {
    if (s.layer(layer).d_ff) add_dense_places(out, s, layer, fmt::format("model.layers.{}.mlp.", layer));
  }
};

}  // namespace

FamilyEntry family_llama() {
  return {"llama", "arXiv:2302.13971", "dense decoder: RMSNorm, rotary positions, SwiGLU", std::make_shared<Llama>("llama", "LlamaForCausalLM"), 0};
}

}  // namespace switchyard
