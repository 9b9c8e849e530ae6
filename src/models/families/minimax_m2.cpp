// MiniMax-M2: sigmoid scores with a bias that only the choice sees, RMSNorm of queries and keys over the whole projection, the first dimensions
// of a head turn. Modules for tokens after the next one are not loaded.
#include "models/hf_decoder.h"
#include "models/hf_deepseek.h"

namespace switchyard {
namespace {

struct MiniMaxM2 final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 196608, .norm_eps = 1e-6, .rope_theta = 5e6});
    if (const int64_t dims = config.integer("rotary_dim", 0); dims > 0 && dims < s.head_dim) s.rope.dims = dims;
    s.mixer = {"attention", {{"qk_norm", config.flag("use_qk_norm", true) ? "full" : "none"}}};
    config.only("qk_norm_type", "per_layer", "a norm over all heads is what is known of this family");
    config.only("scoring_func", "sigmoid", "sigmoid scores are what is known of this family");
    config.only("use_routing_bias", true, "a bias on the choice is what is known of this family");
    config.only("shared_intermediate_size", 0, "a shared expert is not known in this family");
    config.only("sliding_window", ConfigNode{}, "attention over a window is not supported here; null is");
    for (const char* extra : {"num_mtp_modules", "mtp_transformer_layers", "use_mtp", "attn_type_list", "layernorm_full_attention_beta", "layernorm_linear_attention_beta", "layernorm_mlp_beta"})
      config.harmless(extra);
    MoESpec& m = s.moe.emplace();
    m.d_expert = s.d_ff = config.size("intermediate_size");
    m.num_experts = config.size("num_local_experts", 256);
    m.experts = gated_kind(config);
    m.gate = {"chain", ConfigNode{{"normalise", "sigmoid"}, {"balance", ConfigNode{{"kind", "bias"}, {"gamma", 0.0}}},
                                  {"select", ConfigNode{{"kind", "top_k"}, {"k", config.size("num_experts_per_tok", 8)}}}, {"weigh", "renormalise"}}};
    set_pooled_loss(m, config.number("router_aux_loss_coef", 0.0));
    config.harmless("router_jitter_noise");
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    config["hidden_act"] = hidden_act_of(m.experts);
    config["intermediate_size"] = m.d_expert;
    config["num_experts_per_tok"] = top_k_of(m.gate);
    config["num_local_experts"] = m.num_experts;
    config["router_aux_loss_coef"] = pooled_loss_weight(m);
    config["rotary_dim"] = s.rope.dims > 0 ? s.rope.dims : s.head_dim;
    config["scoring_func"] = "sigmoid";
    config["use_qk_norm"] = option_of<std::string>(s.mixer, "qk_norm", "none") == "full";
    config["use_routing_bias"] = true;
    config.erase("partial_rotary_factor");
    config["rope_parameters"].erase("partial_rotary_factor");
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool) const override {
    if (!s.layer(layer).moe) return;
    const auto file = fmt::format("model.layers.{}.block_sparse_moe.", layer);
    add_router_place(out, s, layer, file + "gate.weight", kMixtralKeys);
    out.push_back({file + "e_score_correction_bias", fmt::format("layers.{}.ffn.gate.balance.bias", layer), {{"num_local_experts", s.layer(layer).moe->num_experts}}});
    add_separate_experts(out, s, layer, file + "experts.{}.", kMixtralNames, kMixtralKeys);
  }
  bool ignores(const std::string& stored, const ModelSpec& s) const override { return HfDecoder::ignores(stored, s) || is_extra_prediction(stored, s); }
};

}  // namespace

FamilyEntry family_minimax_m2() {
  return {"minimax_m2", "", "sparse decoder: sigmoid scores balanced by a bias, norms over all queries and keys", std::make_shared<MiniMaxM2>("minimax_m2", "MiniMaxM2ForCausalLM")};
}

}  // namespace switchyard
