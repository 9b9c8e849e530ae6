// Jamba (arXiv:2403.19887): layer i attends when i % attn_layer_period = attn_layer_offset, the others are state spaces; experts when
// i % expert_layer_period = expert_layer_offset; no positions; weights of the chosen are not renormalised.
#include "models/hf_decoder.h"

namespace switchyard {
namespace {

struct Jamba final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 262144, .norm_eps = 1e-6, .rope_theta = 10000});
    s.positions = "none";
    s.d_ff = config.size("intermediate_size");
    s.ffn = gated_kind(config);
    config.only("hidden_act", "silu", "state-space layers of this family are known with SiLU");
    config.only("sliding_window", ConfigNode{}, "attention over a window is not supported here; null is");
    MoESpec& m = s.moe.emplace();
    m.num_experts = config.size("num_experts", 16);
    m.d_expert = s.d_ff;
    m.experts = s.ffn;
    m.gate = softmax_top_k(config.size("num_experts_per_tok", 2), false);
    set_pooled_loss(m, config.number("router_aux_loss_coef", 0.001));
    set_layers(config, s, state_space(config));
    if (m.num_experts == 1) s.moe.reset();
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    for (const char* key : {"rope_theta", "rope_parameters"}) config.erase(key);
    config["hidden_act"] = hidden_act_of(s.ffn);
    config["intermediate_size"] = s.d_ff;
    config["num_experts"] = s.moe ? m.num_experts : 1;
    config["num_experts_per_tok"] = top_k_of(m.gate);
    config["output_router_logits"] = false;
    config["router_aux_loss_coef"] = pooled_loss_weight(m);
    write_places(config, s, "attn_layer", [&](int64_t i) { return s.layer(i).mixer && s.layer(i).mixer->kind == "attention"; });
    write_places(config, s, "expert_layer", [&](int64_t i) { return s.is_moe_layer(i); });
    BlockSpec mamba = "mamba";
    for (int64_t i = 0; i < s.num_layers; ++i)
      if (s.layer(i).mixer && s.layer(i).mixer->kind == "mamba") mamba = *s.layer(i).mixer;
    const int64_t rank = option_of<int64_t>(mamba, "dt_rank", 0);
    config["mamba_conv_bias"] = option_of(mamba, "conv_bias", true);
    config["mamba_d_conv"] = option_of<int64_t>(mamba, "d_conv", 4);
    config["mamba_d_state"] = option_of<int64_t>(mamba, "d_state", 16);
    config["mamba_dt_rank"] = rank > 0 ? nlohmann::ordered_json(rank) : nlohmann::ordered_json("auto");
    config["mamba_expand"] = option_of<int64_t>(mamba, "expand", 2);
    config["mamba_proj_bias"] = option_of(mamba, "proj_bias", false);
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool stacked) const override {
    const auto plan = s.layer(layer);
    const auto file = fmt::format("model.layers.{}.feed_forward.", layer);
    if (plan.d_ff) add_dense_places(out, s, layer, file);
    if (!plan.moe) return;
    add_router_place(out, s, layer, file + "router.weight");
    if (stacked) add_stacked_experts(out, s, layer, file + "experts.gate_up_proj", file + "experts.down_proj");
    else add_separate_experts(out, s, layer, file + "experts.{}.");
  }
  bool has_stacked_layout() const override { return true; }
  HfNames names() const override { return {.norm = "model.final_layernorm", .ffn_norm = "pre_ff_layernorm"}; }

 private:
  static BlockSpec state_space(HfConfig& config) {
    const int64_t rank = config.is_text("mamba_dt_rank", "auto") ? 0 : config.size("mamba_dt_rank", 0);
    return {"mamba", ConfigNode{{"d_state", config.size("mamba_d_state", 16)}, {"d_conv", config.size("mamba_d_conv", 4)}, {"expand", config.size("mamba_expand", 2)},
                                {"dt_rank", rank}, {"conv_bias", config.flag("mamba_conv_bias", true)}, {"proj_bias", config.flag("mamba_proj_bias", false)}, {"inner_norm", true}}};
  }

  static void set_layers(HfConfig& config, ModelSpec& s, const BlockSpec& mamba) {
    const int64_t attn_every = config.size("attn_layer_period", 8), attn_at = config.integer("attn_layer_offset", 4);
    const int64_t moe_every = config.size("expert_layer_period", 2), moe_at = config.integer("expert_layer_offset", 1);
    for (int64_t i = 0; i < s.num_layers; ++i) {
      const bool attends = i % attn_every == attn_at, experts = i % moe_every == moe_at && s.moe->num_experts > 1;
      LayerSpec& layer = s.pattern.emplace_back();
      layer.kind = std::string(attends ? "attention" : "mamba") + (experts ? "+moe" : "+dense");
      if (!attends) layer.mixer = mamba;
    }
  }

  // The period and offset that name exactly these layers.
  template <class F> static void write_places(nlohmann::ordered_json& config, const ModelSpec& s, const std::string& key, F&& is_there) {
    int64_t first = 0, next = 1;
    while (first < s.num_layers && !is_there(first)) ++first;
    while (first + next < s.num_layers && !is_there(first + next)) ++next;
    const bool once = first + next >= s.num_layers;
    config[key + "_offset"] = first;
    config[key + "_period"] = once ? std::max(first + 1, s.num_layers) : next;
  }
};

}  // namespace

FamilyEntry family_jamba() {
  return {"jamba", "arXiv:2403.19887", "sparse decoder: state spaces, attention in every eighth layer", std::make_shared<Jamba>("jamba", "JambaForCausalLM")};
}

}  // namespace switchyard
