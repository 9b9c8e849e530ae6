// Qwen2-MoE, Qwen1.5-MoE: as Qwen3-MoE in where experts are, with the attention of Qwen2 and one shared expert behind a sigmoid gate.
#include "models/hf_decoder.h"
#include "models/hf_qwen_moe.h"
#include "models/hf_windows.h"

namespace switchyard {
namespace {

struct Qwen2Moe final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 32768, .norm_eps = 1e-6, .rope_theta = 10000});
    s.mixer = {"attention", {{"qkv_bias", config.flag("qkv_bias", true)}}};
    read_qwen_experts(config, s, {.num_experts = 60, .top_k = 4});
    const int64_t d_shared = config.size("shared_expert_intermediate_size", 5632);
    if (s.moe) s.moe->num_shared_experts = 1, s.moe->d_shared = d_shared, s.moe->join = "gated_shared";
    read_qwen_windows(config, s);
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    config["qkv_bias"] = option_of(s.mixer, "qkv_bias", false);
    config["shared_expert_intermediate_size"] = m.d_shared > 0 ? m.d_shared : m.num_shared_experts * m.d_expert;
    write_qwen_experts(config, s);
    write_qwen_windows(config, s);
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool stacked) const override {
    add_qwen_network(out, s, layer, stacked);
    if (!s.layer(layer).moe) return;
    const auto file = fmt::format("model.layers.{}.mlp.", layer);
    add_shared_places(out, s, layer, file + "shared_expert.");
    out.push_back({file + "shared_expert_gate.weight", fmt::format("layers.{}.ffn.join.weight", layer), {{"", 1}, {"hidden_size", s.d_model}}});
  }
  bool has_stacked_layout() const override { return true; }
};

}  // namespace

FamilyEntry family_qwen2_moe() {
  return {"qwen2_moe", "", "sparse decoder: small experts beside a shared one behind a sigmoid gate", std::make_shared<Qwen2Moe>("qwen2_moe", "Qwen2MoeForCausalLM")};
}

}  // namespace switchyard
