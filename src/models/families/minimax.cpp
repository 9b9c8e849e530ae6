// MiniMax-Text-01 (arXiv:2501.08313): linear attention with a decaying state in most layers, softmax attention in the others; the residual
// sum starts from the normed input: h = alpha norm(x) + beta branch.
//
// The factors may differ between kinds of branches in the file; what is known is one alpha and one beta for all.
#include "models/hf_decoder.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

struct MiniMax final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 32768, .norm_eps = 1e-5, .rope_theta = 1e6});
    if (const int64_t dims = config.integer("rotary_dim", 0); dims > 0 && dims < s.head_dim) s.rope.dims = dims;
    config.only("sliding_window", ConfigNode{}, "attention over a window is not supported here; null is");
    s.residual = "norm";
    const auto one = [&](const char* suffix) {
      const std::string first = std::string("full_attn_") + suffix;
      const double value = config.number(first, 1.0);
      for (const char* other : {"linear_attn_", "mlp_"})
        if (const double here = config.number(std::string(other) + suffix, 1.0); here != value)
          fail(ErrorKind::unsupported, "config.json: {}{} = {}, but {} = {}: one factor for all branches is supported", other, suffix, here, first, value);
      return value;
    };
    s.stream_scale = one("alpha_factor");
    s.residual_scale = one("beta_factor");
    MoESpec& m = s.moe.emplace();
    m.d_expert = s.d_ff = config.size("intermediate_size");
    m.num_experts = config.size("num_local_experts", 8);
    m.experts = gated_kind(config);
    m.gate = softmax_top_k(config.size("num_experts_per_tok", 2), true, config.number("router_jitter_noise", 0.0));
    set_pooled_loss(m, config.number("router_aux_loss_coef", 0.001));
    const BlockSpec lightning = {"lightning", {{"block", config.size("block_size", 256)}}};
    auto types = config.texts("layer_types");
    if (types.empty())
      for (int64_t i = 0; i < s.num_layers; ++i) types.push_back((i + 1) % 2 == 1 ? "full_attention" : "linear_attention");
    for (const auto& type : types) {
      LayerSpec& layer = s.pattern.emplace_back();
      if (type != "full_attention" && type != "linear_attention") fail(ErrorKind::unsupported, "config.json: layer_types holds '{}', expected full_attention or linear_attention", type);
      layer.kind = type == "full_attention" ? "attention+moe" : "lightning+moe";
      if (type != "full_attention") layer.mixer = lightning;
    }
    if (static_cast<int64_t>(types.size()) != s.num_layers) fail(ErrorKind::config, "config.json: layer_types has {} entries, expected num_hidden_layers = {}", types.size(), s.num_layers);
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    int64_t block = 256;
    auto types = nlohmann::ordered_json::array();
    for (int64_t i = 0; i < s.num_layers; ++i) {
      const auto mixer = s.layer(i).mixer;
      const bool linear = mixer && mixer->kind == "lightning";
      if (linear) block = option_of<int64_t>(*mixer, "block", 256);
      types.push_back(linear ? "linear_attention" : "full_attention");
    }
    config["block_size"] = block;
    for (const char* kind : {"full_attn_", "linear_attn_", "mlp_"}) {
      config[std::string(kind) + "alpha_factor"] = s.stream_scale;
      config[std::string(kind) + "beta_factor"] = s.residual_scale;
    }
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
};

}  // namespace

FamilyEntry family_minimax() {
  return {"minimax", "arXiv:2501.08313", "sparse decoder: linear attention with a decaying state, softmax attention between", std::make_shared<MiniMax>("minimax", "MiniMaxForCausalLM")};
}

}  // namespace switchyard
