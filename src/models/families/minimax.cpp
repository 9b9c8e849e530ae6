// MiniMax-Text-01 (arXiv:2501.08313): linear attention with a decaying state in most layers, softmax attention in the others; the residual
// sum starts from the normed input: h = alpha norm(x) + beta branch, with factors for each of the three kinds of branches.
#include "models/hf_decoder.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

constexpr double kNormOfLightning = 1e-6;  // whatever rms_norm_eps is

struct MiniMax final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 32768, .norm_eps = 1e-5, .rope_theta = 1e6});
    if (const int64_t dims = config.integer("rotary_dim", 0); dims > 0 && dims < s.head_dim) s.rope.dims = dims;
    config.only("sliding_window", ConfigNode{}, "attention over a window is not supported here; null is");
    s.residual = "norm";
    const SumSpec full = sum(config, "full_attn"), linear = sum(config, "linear_attn"), network = sum(config, "mlp");
    s.stream_scale = network.stream_scale, s.residual_scale = network.residual_scale;
    MoESpec& m = s.moe.emplace();
    m.d_expert = s.d_ff = config.size("intermediate_size");
    m.num_experts = config.size("num_local_experts", 8);
    m.experts = gated_kind(config);
    m.gate = softmax_top_k(config.size("num_experts_per_tok", 2), true, config.number("router_jitter_noise", 0.0));
    set_pooled_loss(m, config.number("router_aux_loss_coef", 0.001));
    config.only("hidden_act", "silu", "linear attention of this family is known with SiLU");
    const BlockSpec lightning = {"lightning", {{"block", config.size("block_size", 256)}, {"norm_eps", kNormOfLightning}}};
    auto types = config.texts("layer_types");
    if (types.empty())
      for (int64_t i = 0; i < s.num_layers; ++i) types.push_back((i + 1) % 2 == 1 ? "full_attention" : "linear_attention");
    for (const auto& type : types) {
      LayerSpec& layer = s.pattern.emplace_back();
      if (type != "full_attention" && type != "linear_attention") fail(ErrorKind::unsupported, "config.json: layer_types holds '{}', expected full_attention or linear_attention", type);
      const bool softmax = type == "full_attention";
      layer.kind = softmax ? "attention+moe" : "lightning+moe";
      if (!softmax) layer.mixer = lightning;
      layer.mixer_sum = softmax ? full : linear;
    }
    if (static_cast<int64_t>(types.size()) != s.num_layers) fail(ErrorKind::config, "config.json: layer_types has {} entries, expected num_hidden_layers = {}", types.size(), s.num_layers);
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    int64_t block = 256;
    SumSpec full = s.layer(0).network_sum, linear_sum = full;  // of a kind that no layer is of
    auto types = nlohmann::ordered_json::array();
    for (int64_t i = 0; i < s.num_layers; ++i) {
      const LayerPlan plan = s.layer(i);
      const auto& mixer = plan.mixer;
      const bool linear = mixer && mixer->kind == "lightning";
      (linear ? linear_sum : full) = plan.mixer_sum;
      if (linear) block = option_of<int64_t>(*mixer, "block", 256);
      types.push_back(linear ? "linear_attention" : "full_attention");
    }
    config["block_size"] = block;
    write_sum(config, "full_attn", full), write_sum(config, "linear_attn", linear_sum), write_sum(config, "mlp", s.layer(0).network_sum);
    config["hidden_act"] = hidden_act_of(m.experts);
    config["intermediate_size"] = m.d_expert;
    config["layer_types"] = types;
    config["num_experts_per_tok"] = top_k_of(m.gate);
    config["num_local_experts"] = m.num_experts;
    config["output_router_logits"] = false;
    config["router_aux_loss_coef"] = pooled_loss_weight(m);
    config["router_jitter_noise"] = option_of(m.gate, "jitter_eps", 0.0);
    config["rotary_dim"] = s.rope.dims > 0 ? s.rope.dims : s.head_dim;
    config.erase("partial_rotary_factor");
    config["rope_parameters"].erase("partial_rotary_factor");
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool stacked) const override {
    if (!s.layer(layer).moe) return;
    const auto file = fmt::format("model.layers.{}.", layer);
    add_router_place(out, s, layer, file + (stacked ? "mlp.gate.weight" : "block_sparse_moe.gate.weight"), kMixtralKeys);
    if (stacked) add_stacked_experts(out, s, layer, file + "mlp.experts.gate_up_proj", file + "mlp.experts.down_proj", kMixtralKeys);
    else add_separate_experts(out, s, layer, file + "block_sparse_moe.experts.{}.", kMixtralNames, kMixtralKeys);
  }
  bool has_stacked_layout() const override { return true; }

 private:
  static SumSpec sum(HfConfig& config, const std::string& branch) {
    const SumSpec out{.stream_scale = config.number(branch + "_alpha_factor", 1.0), .residual_scale = config.number(branch + "_beta_factor", 1.0)};
    if (!(out.stream_scale > 0 && out.residual_scale > 0))
      fail(ErrorKind::unsupported, "config.json: {}_alpha_factor = {}, {}_beta_factor = {}: factors above 0 are supported", branch, out.stream_scale, branch, out.residual_scale);
    return out;
  }

  static void write_sum(nlohmann::ordered_json& config, const std::string& branch, const SumSpec& sum) {
    config[branch + "_alpha_factor"] = sum.stream_scale;
    config[branch + "_beta_factor"] = sum.residual_scale;
  }
};

}  // namespace

FamilyEntry family_minimax() {
  return {"minimax", "arXiv:2501.08313", "sparse decoder: linear attention with a decaying state, softmax attention between", std::make_shared<MiniMax>("minimax", "MiniMaxForCausalLM")};
}

}  // namespace switchyard
