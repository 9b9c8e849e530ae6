// Arctic: every layer has a dense network behind its attention, and experts that read the layer's input instead of waiting for both; each
// of the three has its own norm.
#include "models/hf_decoder.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

struct Arctic final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 4096, .norm_eps = 1e-5, .rope_theta = 1e6});
    config.only("sliding_window", ConfigNode{}, "attention over a window is not supported here; null is");
    config.only("parallel_attn_mlp_res", true, "experts beside attention and dense network are what is known of this family");
    config.only("use_residual", true, "a dense network in every layer is what is known of this family");
    config.only("moe_layer_frequency", 1, "experts in every layer are what is known of this family");
    MoESpec& m = s.moe.emplace();
    m.d_expert = config.size("intermediate_size");
    m.num_experts = config.size("num_local_experts", 8);
    m.experts = s.ffn = gated_kind(config);
    m.gate = softmax_top_k(config.size("num_experts_per_tok", 2), true);
    m.input = "layer";
    m.capacity = {};
    for (const char* training : {"moe_train_capacity_factor", "moe_eval_capacity_factor", "moe_min_capacity", "moe_token_dropping", "enable_expert_tensor_parallelism"}) config.harmless(training);
    set_pooled_loss(m, config.number("router_aux_loss_coef", 0.001));
    s.d_ff = s.d_model;
    s.pattern = {LayerSpec{}};
    s.pattern[0].kind = "attention+dense+moe";
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    config["hidden_act"] = hidden_act_of(m.experts);
    config["intermediate_size"] = m.d_expert;
    config["moe_layer_frequency"] = 1;
    config["num_experts_per_tok"] = top_k_of(m.gate);
    config["num_local_experts"] = m.num_experts;
    config["parallel_attn_mlp_res"] = true;
    config["router_aux_loss_coef"] = pooled_loss_weight(m);
    config["use_residual"] = true;
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool) const override {
    const auto plan = s.layer(layer);
    if (!plan.moe || !plan.d_ff) return;
    const auto file = fmt::format("model.layers.{}.", layer), model = fmt::format("layers.{}.", layer);
    add_norm_places(out, file + "residual_layernorm", model + "dense_norm", s);
    add_gated_expert(out, gated_names(file + "residual_mlp.", kMixtralNames), model + "dense", 0, {"hidden_size", *plan.d_ff}, s.d_model);
    add_router_place(out, s, layer, file + "block_sparse_moe.gate.weight", kMixtralKeys);
    add_separate_experts(out, s, layer, file + "block_sparse_moe.experts.{}.", kMixtralNames, kMixtralKeys);
  }
};

}  // namespace

FamilyEntry family_arctic() {
  return {"arctic", "", "sparse decoder: a dense network in every layer, experts that do not wait for it", std::make_shared<Arctic>("arctic", "ArcticForCausalLM")};
}

}  // namespace switchyard
