// gpt-oss (arXiv:2508.10925): sinks in attention, a window in every second layer, a router with a bias and a softmax over the chosen, clamped
// gated experts with biases. The matrices of all experts of a layer lie in two tensors, transposed, with columns of gate and up in
// turn; released files hold them in four bits per weight.
#include "models/hf_decoder.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard {
namespace {

struct GptOss final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 131072, .norm_eps = 1e-5, .rope_theta = 150000});
    const bool bias = config.flag("attention_bias", true);
    s.mixer = {"attention", {{"qkv_bias", bias}, {"o_bias", bias}, {"sinks", true}}};
    config.only("hidden_act", "silu", "the gated network of this family has SiLU");
    MoESpec& m = s.moe.emplace();
    m.d_expert = s.d_ff = config.size("intermediate_size");
    m.num_experts = config.size("num_local_experts", 128);
    m.experts = {"swiglu_clamped", {{"alpha", config.number("swiglu_alpha", 1.702)}, {"limit", config.number("swiglu_limit", 7.0)}}};
    const int64_t k = config.size("num_experts_per_tok", config.size("experts_per_token", 4));
    m.gate = {"chain", ConfigNode{{"score", ConfigNode{{"kind", "linear"}, {"bias", true}}}, {"select", ConfigNode{{"kind", "top_k"}, {"k", k}}}, {"weigh", "softmax_chosen"}, {"allow_constant_weight", k == 1}}};
    set_pooled_loss(m, config.number("router_aux_loss_coef", 0.9));
    config.harmless("initial_context_length");
    const int64_t window = config.integer("sliding_window", 128);
    auto types = config.texts("layer_types");
    if (types.empty())
      for (int64_t i = 0; i < s.num_layers; ++i) types.push_back(i % 2 == 0 ? "sliding_attention" : "full_attention");
    if (static_cast<int64_t>(types.size()) != s.num_layers) fail(ErrorKind::config, "config.json: layer_types has {} entries, expected num_hidden_layers = {}", types.size(), s.num_layers);
    std::vector<int64_t> windows;
    for (const auto& type : types) {
      if (type != "sliding_attention" && type != "full_attention") fail(ErrorKind::unsupported, "config.json: layer_types holds '{}', expected sliding_attention or full_attention", type);
      windows.push_back(type == "sliding_attention" ? window : 0);
    }
    set_windows(s, windows);
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    const auto windows = windows_of(s);
    auto types = nlohmann::ordered_json::array();
    for (const int64_t w : windows) types.push_back(w > 0 ? "sliding_attention" : "full_attention");
    config["attention_bias"] = option_of(s.mixer, "qkv_bias", false);
    config["hidden_act"] = "silu";
    config["intermediate_size"] = m.d_expert;
    config["layer_types"] = types;
    config["num_experts_per_tok"] = top_k_of(m.gate);
    config["num_local_experts"] = m.num_experts;
    config["output_router_logits"] = false;
    config["router_aux_loss_coef"] = pooled_loss_weight(m);
    config["sliding_window"] = std::max<int64_t>(1, *std::max_element(windows.begin(), windows.end()));
    config["swiglu_alpha"] = option_of(m.experts, "alpha", 1.702);
    config["swiglu_limit"] = option_of(m.experts, "limit", 7.0);
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool) const override {
    const auto plan = s.layer(layer);
    if (!plan.moe) return;
    const auto file = fmt::format("model.layers.{}.mlp.", layer), gate = fmt::format("layers.{}.ffn.gate.score.", layer), bank = fmt::format("layers.{}.ffn.experts.", layer);
    const int64_t f = plan.moe->d_expert;
    const Dimension n{"num_local_experts", plan.moe->num_experts}, d{"hidden_size", s.d_model}, width{"intermediate_size", f}, both{"2 * intermediate_size", 2 * f};
    out.push_back({file + "router.weight", gate + "weight", {n, d}});
    out.push_back({file + "router.bias", gate + "bias", {n}});
    for (int64_t e = 0; e < n.size; ++e) {
      for (const int64_t half : {0, 1}) {  // gate columns 0, 2, 4 ...; up columns 1, 3, 5 ...
        out.push_back({file + "experts.gate_up_proj", bank + "w_in", {n, d, both}, e, half * f, f, {.index = e, .column = half, .column_step = 2, .transposed = true}});
        out.push_back({file + "experts.gate_up_proj_bias", bank + "b_in", {n, both}, e, half * f, f, {.index = e, .column = half, .column_step = 2}});
      }
      out.push_back({file + "experts.down_proj", bank + "w_out", {n, width, d}, e, 0, -1, {.index = e, .transposed = true}});
      out.push_back({file + "experts.down_proj_bias", bank + "b_out", {n, d}, e, 0, -1, {.index = e}});
    }
  }
};

}  // namespace

FamilyEntry family_gpt_oss() {
  return {"gpt_oss", "arXiv:2508.10925", "sparse decoder: sinks, windows, clamped experts with biases", std::make_shared<GptOss>("gpt_oss", "GptOssForCausalLM")};
}

}  // namespace switchyard
