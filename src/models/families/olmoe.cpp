// OLMoE (arXiv:2409.02060): many small experts in every layer, weights not renormalised, RMSNorm of queries and keys over the whole
// projection, values that may be clipped.
#include "models/hf_decoder.h"

namespace switchyard {
namespace {

struct Olmoe final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 4096, .norm_eps = 1e-5, .rope_theta = 10000});
    MoESpec& m = s.moe.emplace();
    m.d_expert = s.d_ff = config.size("intermediate_size");
    m.num_experts = config.size("num_experts", 64);
    m.gate = softmax_top_k(config.size("num_experts_per_tok", 8), config.flag("norm_topk_prob", false));
    m.experts = gated_kind(config);
    set_pooled_loss(m, config.number("router_aux_loss_coef", 0.01));
    const bool bias = config.flag("attention_bias", false);
    s.mixer = {"attention", {{"qk_norm", "full"}, {"qkv_bias", bias}, {"o_bias", bias}, {"clip_qkv", config.number("clip_qkv", 0.0)}}};
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    const double clip = option_of(s.mixer, "clip_qkv", 0.0);
    config["attention_bias"] = option_of(s.mixer, "qkv_bias", false);
    config["clip_qkv"] = clip > 0 ? nlohmann::ordered_json(clip) : nlohmann::ordered_json(nullptr);
    config["hidden_act"] = hidden_act_of(m.experts);
    config["intermediate_size"] = m.d_expert;
    config["norm_topk_prob"] = renormalises(m.gate);
    config["num_experts"] = m.num_experts;
    config["num_experts_per_tok"] = top_k_of(m.gate);
    config["output_router_logits"] = false;
    config["router_aux_loss_coef"] = pooled_loss_weight(m);
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool stacked) const override {
    if (!s.layer(layer).moe) return;
    const auto file = fmt::format("model.layers.{}.mlp.", layer);
    add_router_place(out, s, layer, file + "gate.weight");
    if (stacked) add_stacked_experts(out, s, layer, file + "experts.gate_up_proj", file + "experts.down_proj");
    else add_separate_experts(out, s, layer, file + "experts.{}.");
  }
  bool has_stacked_layout() const override { return true; }
};

}  // namespace

FamilyEntry family_olmoe() {
  return {"olmoe", "arXiv:2409.02060", "sparse decoder: many small experts, norms over all queries and all keys", std::make_shared<Olmoe>("olmoe", "OlmoeForCausalLM")};
}

}  // namespace switchyard
