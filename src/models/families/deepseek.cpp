// DeepSeekMoE (arXiv:2401.06066): fine-grained experts, shared experts, dense first layers; the attention of Llama.
#include "models/hf_decoder.h"
#include "models/hf_deepseek.h"

namespace switchyard {
namespace {

struct Deepseek final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 2048, .norm_eps = 1e-6, .rope_theta = 10000});
    const bool bias = config.flag("attention_bias", false);
    if (bias) s.mixer = {"attention", {{"qkv_bias", true}, {"o_bias", true}}};
    read_deepseek_experts(config, s, {});
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    config["attention_bias"] = option_of(s.mixer, "qkv_bias", false);
    write_deepseek_experts(config, s);
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool stacked) const override { add_deepseek_network(out, s, layer, stacked); }
  bool has_stacked_layout() const override { return true; }
};

}  // namespace

FamilyEntry family_deepseek() {
  return {"deepseek", "arXiv:2401.06066", "sparse decoder: fine-grained and shared experts, dense first layers", std::make_shared<Deepseek>("deepseek", "DeepseekForCausalLM")};
}

}  // namespace switchyard
