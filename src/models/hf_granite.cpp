// Granite 3.0 MoE: Llama's attention, experts in stacked tensors, a softmax over the chosen logits, and four multipliers: of the
// embedding, of the scores (instead of 1 / sqrt(c)), of what is added to the stream, and a divisor of the logits.
#include "models/hf_granite.h"

#include "models/hf_decoder.h"

#include <cmath>

namespace switchyard {
namespace {

struct GraniteMoe final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 2048, .norm_eps = 1e-6, .rope_theta = 10000});
    MoESpec& m = s.moe.emplace();
    m.d_expert = s.d_ff = config.size("intermediate_size");
    m.num_experts = config.size("num_local_experts", 8);
    m.gate = softmax_top_k(config.size("num_experts_per_tok", 2), true);
    m.experts = gated_kind(config);
    set_pooled_loss(m, config.number("router_aux_loss_coef", 0.001));
    const bool bias = config.flag("attention_bias", false);
    const double scale = config.number("attention_multiplier", 1.0), plain = 1 / std::sqrt(static_cast<double>(s.head_dim));
    const bool plain_scale = std::abs(scale - plain) < 1e-12;
    s.mixer = {"attention", {{"scale", plain_scale ? 0.0 : scale}, {"qkv_bias", bias}, {"o_bias", bias}}};
    s.embed_scale = config.number("embedding_multiplier", 1.0);
    s.residual_scale = config.number("residual_multiplier", 1.0);
    s.logit_scale = 1 / config.number("logits_scaling", 1.0);
    if (const int64_t width = config.integer("shared_intermediate_size", 0)) m.num_shared_experts = 1, m.d_shared = width;
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    config["attention_bias"] = option_of(s.mixer, "qkv_bias", false);
    const double scale = option_of(s.mixer, "scale", 0.0);
    config["attention_multiplier"] = scale > 0 ? scale : 1 / std::sqrt(static_cast<double>(s.head_dim));
    config["embedding_multiplier"] = s.embed_scale;
    config["hidden_act"] = hidden_act_of(m.experts);
    config["intermediate_size"] = m.d_expert;
    config["logits_scaling"] = 1 / s.logit_scale;
    config["num_local_experts"] = m.num_experts;
    config["num_experts_per_tok"] = top_k_of(m.gate);
    config["output_router_logits"] = false;
    config["residual_multiplier"] = s.residual_scale;
    config["router_aux_loss_coef"] = pooled_loss_weight(m);
    if (m.num_shared_experts > 0) config["shared_intermediate_size"] = m.d_shared > 0 ? m.d_shared : m.num_shared_experts * m.d_expert;
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool) const override {
    if (!s.layer(layer).moe) return;
    const auto file = fmt::format("model.layers.{}.", layer);
    add_router_place(out, s, layer, file + "block_sparse_moe.router.layer.weight", kMixtralKeys);
    add_stacked_experts(out, s, layer, file + "block_sparse_moe.input_linear.weight", file + "block_sparse_moe.output_linear.weight", kMixtralKeys);
    const MoESpec m = *s.layer(layer).moe;
    if (m.num_shared_experts == 0) return;
    const Dimension d{"hidden_size", s.d_model}, width{"shared_intermediate_size", m.d_shared > 0 ? m.d_shared : m.num_shared_experts * m.d_expert};
    const auto bank = fmt::format("layers.{}.ffn.shared_experts", layer);
    out.push_back({file + "shared_mlp.input_linear.weight", bank + ".w_in", {{"2 * shared_intermediate_size", 2 * width.size}, d}, 0});
    out.push_back({file + "shared_mlp.output_linear.weight", bank + ".w_out", {d, width}, 0});
  }
};

}  // namespace

std::shared_ptr<Family> granite_moe(std::string model_type, std::string architecture) {
  return std::make_shared<GraniteMoe>(std::move(model_type), std::move(architecture));
}

}  // namespace switchyard
