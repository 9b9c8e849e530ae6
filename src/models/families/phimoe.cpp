// Phi-3.5-MoE (arXiv:2404.14219): Mixtral's experts behind SparseMixer-v2, LayerNorm with biases, biases in attention and head, positions
// stretched by longrope.
//
// In training the library disturbs the input of the experts (input_jitter_noise) and draws the choices; here neither is done
// (src/gates/weigh/sparse_mixer.cpp).
#include "models/hf_decoder.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

struct PhiMoe final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 131072, .norm_eps = 1e-5, .rope_theta = 1e6});
    s.norm = "layer";
    const bool bias = config.flag("attention_bias", false);
    s.mixer = {"attention", {{"qkv_bias", bias}, {"o_bias", bias}}};
    s.head_bias = config.flag("lm_head_bias", false);
    set_windows(s, std::vector<int64_t>(static_cast<size_t>(s.num_layers), config.integer("sliding_window", 0)));
    MoESpec& m = s.moe.emplace();
    m.d_expert = s.d_ff = config.size("intermediate_size");
    m.num_experts = config.size("num_local_experts", 16);
    m.experts = gated_kind(config);
    const int64_t k = config.size("num_experts_per_tok", 2);
    if (k != 2) fail(ErrorKind::unsupported, "config.json: num_experts_per_tok = {}: this family chooses 2", k);
    m.gate = {"chain", ConfigNode{{"select", ConfigNode{{"kind", "top_k"}, {"k", k}}}, {"weigh", ConfigNode{{"kind", "sparse_mixer"}, {"eps", config.number("router_jitter_noise", 0.01)}}}}};
    config.harmless("input_jitter_noise");
    set_pooled_loss(m, config.number("router_aux_loss_coef", 0.001));
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    double eps = 0.01;
    if (const ConfigNode* weigh = m.gate.options.find("weigh"); weigh && weigh->find("eps")) read_any(*weigh->find("eps"), "eps", eps);
    const int64_t window = windows_of(s)[0];
    config["attention_bias"] = option_of(s.mixer, "qkv_bias", false);
    config["hidden_act"] = hidden_act_of(m.experts);
    config["intermediate_size"] = m.d_expert;
    config["lm_head_bias"] = s.head_bias;
    config["num_experts_per_tok"] = top_k_of(m.gate);
    config["num_local_experts"] = m.num_experts;
    config["output_router_logits"] = false;
    config["router_aux_loss_coef"] = pooled_loss_weight(m);
    config["router_jitter_noise"] = eps;
    config["sliding_window"] = window > 0 ? nlohmann::ordered_json(window) : nlohmann::ordered_json(nullptr);
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool stacked) const override {
    if (!s.layer(layer).moe) return;
    const auto file = fmt::format("model.layers.{}.", layer);
    add_router_place(out, s, layer, file + (stacked ? "mlp.router.weight" : "block_sparse_moe.gate.weight"), kMixtralKeys);
    if (stacked) add_stacked_experts(out, s, layer, file + "mlp.experts.gate_up_proj", file + "mlp.experts.down_proj", kMixtralKeys);
    else add_separate_experts(out, s, layer, file + "block_sparse_moe.experts.{}.", kMixtralNames, kMixtralKeys);
  }
  bool has_stacked_layout() const override { return true; }
};

}  // namespace

FamilyEntry family_phimoe() {
  return {"phimoe", "arXiv:2404.14219", "sparse decoder: SparseMixer routing, LayerNorm, biases, longrope", std::make_shared<PhiMoe>("phimoe", "PhimoeForCausalLM")};
}

}  // namespace switchyard
