// OpenMoE (arXiv:2402.01739): experts in every so many blocks, behind them a dense network with a norm of its own; the two best of a softmax as
// they are; attention scores that are not scaled (as in T5, arXiv:1910.10683); matrices of experts in [in, out] order.
//
// hidden_act "swiglu" is SwiGLU as the activation of a network that is gated already (src/experts/gated_swiglu.cpp): what gates is twice as wide.
// With "silu" or "gelu" all three matrices have one width. An expert takes floor(k factor T / E) rows of a call, one more when that
// is odd, and at least router_min_capacity; first choices come before second ones. Angles have base 10000 whatever rope_theta says.
//
// Departs from its code when tokens come one by one: there a query turns by its position + 1 and keys by theirs. Here they do what they do
// in a whole text.
#include "models/hf_decoder.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard {
namespace {

constexpr double kTheta = 10000;

int64_t linears_of_gate(const BlockSpec& kind) { return kind.kind == "gated_swiglu" ? 2 : 1; }

struct OpenMoe final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 2048, .norm_eps = 1e-6, .rope_theta = kTheta});
    if (s.rope_theta != kTheta || s.rope.scaling != "none")
      fail(ErrorKind::unsupported, "config.json: rope_theta = {}, scaling = {}: this family has {} and none whatever the keys say", s.rope_theta,
           s.rope.scaling, kTheta);
    s.mixer = {"attention", {{"scale", 1.0}}};
    config.only("attention_bias", false, "biases in attention are not supported");
    s.ffn = config.is_text("hidden_act", "swiglu") ? BlockSpec("gated_swiglu") : gated_kind(config);
    s.d_ff = config.size("intermediate_size");
    read_experts(config, s);
    for (const char* training :
         {"dropout_rate", "label_smoothing", "z_loss_factor", "layer_norm_epsilon", "expert_parallel", "enable_load_balance", "load_balance_tolerance",
          "load_balance_beam_width", "load_balance_group_swap_factor", "enable_kernel", "enable_comm_overlap", "enable_hierarchical_alltoall"})
      config.harmless(training);
    set_blocks(s, config.size("moe_layer_interval"));
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    int64_t blocks = 0, interval = 0;
    for (int64_t i = 0; i < s.num_layers; ++i) {
      blocks += s.layer(i).mixer ? 1 : 0;
      if (interval == 0 && s.layer(i).moe) interval = blocks;
    }
    config["hidden_act"] = s.ffn.kind == "gated_swiglu" ? "swiglu" : hidden_act_of(s.ffn);
    config["intermediate_size"] = s.d_ff;
    config["mlp_gated"] = true;
    config["moe_layer_interval"] = std::max<int64_t>(1, interval);
    config["num_experts"] = m.num_experts;
    config["num_hidden_layers"] = blocks;
    config["router_aux_loss_factor"] = weight_of(m, "load_balance");
    config["router_capacity_factor_eval"] = m.capacity.eval_factor;
    config["router_capacity_factor_train"] = m.capacity.factor;
    config["router_drop_tks"] = true;
    config["router_min_capacity"] = m.capacity.min_capacity;
    config["router_noisy_policy"] = nullptr;
    config["router_topk"] = top_k_of(m.gate);
    config["router_z_loss_factor"] = weight_of(m, "router_z");
  }

  // A block with experts is two layers here: attention and experts, and the network behind them.
  std::vector<Places> layouts(const LanguageModel& model) const override {
    const ModelSpec& s = model.spec();
    Places out;
    add_outer_places(out, s);
    int64_t block = -1;
    for (int64_t i = 0; i < s.num_layers; ++i) {
      const bool extra = !s.layer(i).mixer;
      block += extra ? 0 : 1;
      const auto file = fmt::format("model.layers.{}.", block);
      HfNames names{.layer = file};
      if (extra) names.ffn_norm = "pre_extra_mlp_layernorm";
      add_attention_places(out, s, i, names);
      if (s.layer(i).moe) add_experts(out, s, i, file + "mlp.");
      else add_dense(out, s, i, file + (extra ? "extra_mlp." : "mlp."));
    }
    return {out};
  }

  void add_network(Places&, const ModelSpec&, int64_t, bool) const override {}  // layouts() has it all

 private:
  static double weight_of(const MoESpec& m, const char* kind) {
    for (const auto& loss : m.losses)
      if (loss.kind == kind) return read_loss(loss).weight;
    return 0;
  }

  static void set_blocks(ModelSpec& s, int64_t interval) {
    if (interval > s.num_layers)
      fail(ErrorKind::config, "config.json: moe_layer_interval = {} leaves no experts in num_hidden_layers = {}", interval, s.num_layers);
    s.pattern.resize(static_cast<size_t>(interval) + 1);
    for (LayerSpec& layer : s.pattern) layer.kind = "attention+dense";
    s.pattern[static_cast<size_t>(interval) - 1].kind = "attention+moe";
    s.pattern.back().kind = "dense";
    s.num_layers += s.num_layers / interval;
  }

  // Older files have the keys without "router_".
  static void read_experts(HfConfig& config, ModelSpec& s) {
    MoESpec& m = s.moe.emplace();
    m.num_experts = config.size("num_experts");
    m.d_expert = s.d_ff;
    m.experts = s.ffn;
    const int64_t k = config.size("router_topk", config.size("topk", 2));
    if (k > 2) fail(ErrorKind::unsupported, "config.json: router_topk = {}, expected 1 or 2: more choices have another router there", k);
    if (k > m.num_experts) fail(ErrorKind::config, "config.json: router_topk = {} exceeds num_experts = {}", k, m.num_experts);
    m.gate = softmax_top_k(k, false);
    m.capacity.factor = config.number("router_capacity_factor_train", config.number("capacity_factor_train", 1.25));
    m.capacity.eval_factor = config.number("router_capacity_factor_eval", config.number("capacity_factor_eval", 2.0));
    m.capacity.min_capacity = config.integer("router_min_capacity", config.integer("min_capacity", 4));
    m.capacity.rounding = "floor_even";
    for (const char* key : {"mlp_gated", "gated"}) config.only(key, true, "networks without a gate are not supported");
    for (const char* key : {"router_drop_tks", "drop_tks"}) config.only(key, true, "its code keeps all choices only among several devices");
    for (const char* key : {"router_noisy_policy", "noisy_policy"}) config.only(key, ConfigNode{}, "noise of the router is not supported; null is");
    const double balance = config.number("router_aux_loss_factor", 0.01), z = config.number("router_z_loss_factor", 1e-4);
    if (balance > 0) m.losses.push_back({"load_balance", ConfigNode{{"weight", balance}, {"layer_reduce", "mean"}, {"divide_by_k", false}}});
    if (z > 0) m.losses.push_back({"router_z", ConfigNode{{"weight", z}, {"layer_reduce", "mean"}}});
  }

  static void add_dense(Places& out, const ModelSpec& s, int64_t layer, const std::string& file) {
    const auto plan = s.layer(layer);
    const auto bank = fmt::format("layers.{}.ffn.", layer);
    const int64_t f = *plan.d_ff, wide = linears_of_gate(plan.ffn) * f;
    const Dimension d{"hidden_size", s.d_model}, width{"intermediate_size", f}, gate{wide == f ? "intermediate_size" : "2 * intermediate_size", wide};
    out.push_back({file + "gate_proj.weight", bank + "w_in", {gate, d}, 0, 0, wide});
    out.push_back({file + "up_proj.weight", bank + "w_in", {width, d}, 0, wide, f});
    out.push_back({file + "down_proj.weight", bank + "w_out", {d, width}, 0});
  }

  static void add_experts(Places& out, const ModelSpec& s, int64_t layer, const std::string& file) {
    const MoESpec m = *s.layer(layer).moe;
    const auto model = fmt::format("layers.{}.ffn.", layer);
    const int64_t f = m.d_expert, wide = linears_of_gate(m.experts) * f;
    const Dimension n{"num_experts", m.num_experts}, d{"hidden_size", s.d_model}, width{"intermediate_size", f},
        gate{wide == f ? "intermediate_size" : "2 * intermediate_size", wide};
    out.push_back({file + "gate_weight", model + "gate.score.weight", {n, d}});
    for (int64_t e = 0; e < n.size; ++e) {
      out.push_back({file + "experts.wi_gate", model + "experts.w_in", {n, d, gate}, e, 0, wide, {.index = e, .transposed = true}});
      out.push_back({file + "experts.wi_up", model + "experts.w_in", {n, d, width}, e, wide, f, {.index = e, .transposed = true}});
      out.push_back({file + "experts.wo", model + "experts.w_out", {n, width, d}, e, 0, -1, {.index = e, .transposed = true}});
    }
  }
};

}  // namespace

FamilyEntry family_openmoe() {
  return {"openmoe",
          "arXiv:2402.01739",
          "sparse decoder: a dense network behind the experts of every so many blocks",
          std::make_shared<OpenMoe>("openmoe", "OpenMoeForCausalLM"),
          1,
          {"OpenMoeForCausalLM"}};
}

}  // namespace switchyard
