// Mixtral (arXiv:2401.04088): every layer has experts; softmax, top-k, renormalised; one load-balancing loss over the router
// logits of all layers together, with f not divided by k.
//
// Published in two layouts: one tensor per matrix of an expert, and (in memory of transformers 5) the experts of a layer
// stacked, gate rows before up rows.
//
// Departs from the library: its router_jitter_noise also disturbs the input of the experts, ours that of the router only
// (arXiv:2101.03961 section 2.4). Both act in training only.
#include "models/hf_decoder.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

struct Mixtral final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 131072, .norm_eps = 1e-5, .rope_theta = 1e6});
    s.d_ff = config.size("intermediate_size");
    MoESpec& m = s.moe.emplace();
    m.d_expert = s.d_ff;
    m.num_experts = config.size("num_local_experts", 8);
    const int64_t k = config.size("num_experts_per_tok", 2);
    if (k > m.num_experts) fail(ErrorKind::config, "config.json: num_experts_per_tok = {} exceeds num_local_experts = {}", k, m.num_experts);
    m.gate = softmax_top_k(k, true, config.number("router_jitter_noise", 0.0));
    m.experts = gated_kind(config);
    set_pooled_loss(m, config.number("router_aux_loss_coef", 0.001));
    set_windows(s, std::vector<int64_t>(static_cast<size_t>(s.num_layers), config.size("sliding_window", 0)));
    config.only("attention_bias", false, "biases in attention are not supported");
    config.only("mlp_bias", false, "biases in feed-forward layers are not supported");
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    config["hidden_act"] = hidden_act_of(m.experts);
    config["intermediate_size"] = m.d_expert > 0 ? m.d_expert : s.d_ff;
    config["num_local_experts"] = m.num_experts;
    config["num_experts_per_tok"] = top_k_of(m.gate);
    config["output_router_logits"] = false;
    config["router_aux_loss_coef"] = pooled_loss_weight(m);
    config["router_jitter_noise"] = option_of(m.gate, "jitter_eps", 0.0);
    const int64_t window = windows_of(s)[0];
    config["sliding_window"] = window > 0 ? nlohmann::ordered_json(window) : nlohmann::ordered_json(nullptr);
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

FamilyEntry family_mixtral() {
  return {"mixtral", "arXiv:2401.04088", "sparse decoder: softmax top-k of SwiGLU experts in every layer", std::make_shared<Mixtral>("mixtral", "MixtralForCausalLM"), 0};
}

}  // namespace switchyard
