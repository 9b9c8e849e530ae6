// Mixtral (arXiv:2401.04088): every layer has experts; softmax, top-k, renormalised; one load-balancing loss over the router
// logits of all layers together, with f not divided by k.
//
// Published in two layouts: one tensor per matrix of an expert, and (in memory of transformers 5) the experts of a layer
// stacked, gate rows before up rows.
//
// Departs from the library: its router_jitter_noise also disturbs the input of the experts, ours that of the router only
// (arXiv:2101.03961 section 2.4). Both act in training only.
#include "models/canonical_spec.h"
#include "models/family.h"
#include "models/hf_config.h"
#include "models/hf_places.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

BlockSpec gate_of(int64_t k, double jitter_eps) {
  if (k > 1) {
    ConfigNode::Table options{{"k", k}};
    if (jitter_eps > 0) options.emplace_back("jitter_eps", jitter_eps);
    return {"top_k", ConfigNode(std::move(options))};
  }
  // One expert with the constant weight 1: nothing to learn for the router, but such files can be used.
  ConfigNode::Table options{{"select", {{"kind", "top_k"}, {"k", k}}}, {"allow_constant_weight", true}};
  if (jitter_eps > 0) options.emplace_back("noise", ConfigNode{{"kind", "jitter"}, {"eps", jitter_eps}});
  return {"chain", ConfigNode(std::move(options))};
}

struct Mixtral final : Family {
  ModelSpec read_config(const ConfigNode& node) const override {
    HfConfig config(node);
    ModelSpec s = read_common_keys(config, {.max_positions = 131072, .norm_eps = 1e-5, .rope_theta = 1e6});
    s.d_ff = config.size("intermediate_size");
    MoESpec& m = s.moe.emplace();
    m.d_expert = s.d_ff;
    m.num_experts = config.size("num_local_experts", 8);
    const int64_t k = config.size("num_experts_per_tok", 2);
    if (k > m.num_experts) fail(ErrorKind::config, "config.json: num_experts_per_tok = {} exceeds num_local_experts = {}", k, m.num_experts);
    m.gate = gate_of(k, config.number("router_jitter_noise", 0.0));
    const double weight = config.number("router_aux_loss_coef", 0.001);
    if (weight > 0) m.losses.push_back({"load_balance", ConfigNode{{"weight", weight}, {"layer_reduce", "pooled"}, {"divide_by_k", false}}});
    config.refuse_other_keys();
    return s;
  }

  nlohmann::ordered_json write_config(const ModelSpec& spec) const override {
    const MoESpec m = canonical(spec).moe.value_or(MoESpec{});
    nlohmann::ordered_json config{{"architectures", {"MixtralForCausalLM"}}, {"model_type", "mixtral"}};
    write_common_keys(config, spec);
    config["intermediate_size"] = m.d_expert > 0 ? m.d_expert : spec.d_ff;
    config["num_local_experts"] = m.num_experts;
    const auto number = [&](const char* key, double absent) {
      const ConfigNode* option = m.gate.options.find(key);
      if (option) read_any(*option, key, absent);
      return absent;
    };
    config["num_experts_per_tok"] = static_cast<int64_t>(number("k", 2));
    config["output_router_logits"] = false;
    config["router_aux_loss_coef"] = m.losses.empty() ? 0.0 : read_loss(m.losses[0]).weight;
    config["router_jitter_noise"] = number("jitter_eps", 0);
    config["sliding_window"] = nullptr;
    return config;
  }

  std::vector<Places> layouts(const LanguageModel& model) const override {
    return {places(model.spec(), &Mixtral::add_separate_experts), places(model.spec(), &Mixtral::add_stacked_experts)};
  }

  bool ignores(const std::string& stored, const ModelSpec& spec) const override { return is_known_leftover(stored, spec); }

 private:
  using AddExperts = void(Places&, const ModelSpec&, int64_t layer);

  static Places places(const ModelSpec& s, AddExperts* add_experts) {
    Places out;
    add_outer_places(out, s);
    for (int64_t i = 0; i < s.num_layers; ++i) {
      add_attention_places(out, s, i);
      add_experts(out, s, i);
    }
    return out;
  }

  static TensorPlace router(const std::string& stored, const ModelSpec& s, int64_t layer) {
    return {stored, fmt::format("layers.{}.ffn.gate.score.weight", layer), {{"num_local_experts", s.moe->num_experts}, {"hidden_size", s.d_model}}};
  }

  static void add_separate_experts(Places& out, const ModelSpec& s, int64_t layer) {
    const auto file = fmt::format("model.layers.{}.block_sparse_moe.", layer);
    out.push_back(router(file + "gate.weight", s, layer));
    for (int64_t e = 0; e < s.moe->num_experts; ++e) {
      const auto expert = fmt::format("{}experts.{}.", file, e);
      add_gated_expert(out, {expert + "w1.weight", expert + "w3.weight", expert + "w2.weight"}, fmt::format("layers.{}.ffn.experts", layer), e,
                       {"intermediate_size", s.moe->d_expert}, s.d_model);
    }
  }

  static void add_stacked_experts(Places& out, const ModelSpec& s, int64_t layer) {
    const auto file = fmt::format("model.layers.{}.mlp.", layer), bank = fmt::format("layers.{}.ffn.experts", layer);
    const Dimension experts{"num_local_experts", s.moe->num_experts}, d{"hidden_size", s.d_model};
    out.push_back(router(file + "gate.weight", s, layer));
    out.push_back({file + "experts.gate_up_proj", bank + ".w_in", {experts, {"2 * intermediate_size", 2 * s.moe->d_expert}, d}});
    out.push_back({file + "experts.down_proj", bank + ".w_out", {experts, d, {"intermediate_size", s.moe->d_expert}}});
  }
};

}  // namespace

FamilyEntry family_mixtral() {
  return {"mixtral", "arXiv:2401.04088", "sparse decoder: softmax top-k of SwiGLU experts in every layer", std::make_shared<Mixtral>()};
}

}  // namespace switchyard
