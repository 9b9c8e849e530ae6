// LLaMA-MoE (arXiv:2406.16554): the networks of Llama, cut into experts of neurons. Gate Linear -> tanh -> Linear (or one Linear) with noise of
// a learned deviation in training, a softmax over the chosen, scores times a factor that may differ by layer; losses CV^2 of importance and
// of load, with the variance over E - 1.
//
// Departs from its code in training alone: its load loss asks of the noise what arXiv:1701.06538 appendix A asks of the noisy logits.
#include "models/hf_decoder.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard {
namespace {

constexpr double kTheta = 10000, kFloor = 0.01;  // its code reads no rope_theta; 0.01 is the default of learned_gaussian

std::string kind_of(const ConfigNode* block, const char* absent) {
  if (!block) return absent;
  if (block->string()) return *block->string();
  const ConfigNode* kind = block->find("kind");
  return kind && kind->string() ? *kind->string() : absent;
}

double number_of(const ConfigNode* block, const char* key, double absent) {
  if (const ConfigNode* node = block ? block->find(key) : nullptr) read_any(*node, key, absent);
  return absent;
}

struct LlamaMoe final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 2048, .norm_eps = 1e-6, .rope_theta = kTheta});
    if (s.rope_theta != kTheta) fail(ErrorKind::unsupported, "config.json: rope_theta = {}: this family has {} whatever the key says", s.rope_theta, kTheta);
    for (const char* other : {"calculator_type", "gate_type"})
      config.only(other, other[0] == 'g' ? "TopKBalancedNoisyGate" : "UniversalCalculator", "it is what the published models have; others are not supported");
    config.only("gate_use_softmax", true, "weights without a softmax are not supported");
    config.only("add_weight_norm", false, "a norm of weighted outputs is not supported");
    config.only("attention_bias", false, "biases in attention are not supported");
    for (const char* of_other_calculators : {"drop_tokens", "dropped_padding", "capacity_factor"}) config.harmless(of_other_calculators);
    MoESpec& m = s.moe.emplace();
    m.num_experts = config.size("num_experts", 16);
    m.experts = s.ffn = gated_kind(config);
    s.d_ff = config.size("intermediate_size", 11008);
    read_gate(config, m);
    read_layers(config, s);
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    const ConfigNode* noise = m.gate.options.find("noise");
    const bool noisy = kind_of(noise, "none") == "learned_gaussian", weighed = kind_of(m.gate.options.find("weigh"), "") != "equal";
    auto sizes = nlohmann::ordered_json::array(), scales = sizes;
    for (int64_t i = 0; i < s.num_layers; ++i) {
      const MoESpec here = s.layer(i).moe.value_or(m);
      sizes.push_back(std::vector<int64_t>(static_cast<size_t>(here.num_experts), here.d_expert));
      scales.push_back(here.routed_scale);
    }
    const bool one_scale = std::all_of(scales.begin(), scales.end(), [&](const auto& x) { return x == scales[0]; });
    config["calculator_type"] = "UniversalCalculator";
    config["gate_add_noise"] = noisy;
    config["gate_balance_loss_weight"] = pooled_loss_weight(m);
    config["gate_network"] = kind_of(m.gate.options.find("score"), "linear");
    config["gate_noise_epsilon"] = noisy ? number_of(noise, "floor", kFloor) : kFloor;
    config["gate_type"] = "TopKBalancedNoisyGate";
    config["gate_use_balance"] = !m.losses.empty();
    config["gate_use_softmax"] = true;
    config["hidden_act"] = hidden_act_of(m.experts);
    config["intermediate_size"] = m.num_experts * s.layer(0).moe.value_or(m).d_expert;
    config["multiply_gate_scores"] = weighed;
    config["num_experts"] = m.num_experts;
    config["num_selects"] = top_k_of(m.gate);
    config["score_scale_factor"] = one_scale ? scales[0] : scales;
    config["size_experts"] = sizes;
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool) const override {
    const auto plan = s.layer(layer);
    if (!plan.moe) return;
    const auto file = fmt::format("model.layers.{}.mlp.", layer), gate = fmt::format("layers.{}.ffn.gate.", layer),
               bank = fmt::format("layers.{}.ffn.experts", layer);
    const Dimension n{"num_experts", plan.moe->num_experts}, d{"hidden_size", s.d_model};
    if (kind_of(plan.moe->gate.options.find("score"), "linear") == "mlp") {
      out.push_back({file + "gate.gate_network.0.weight", gate + "score.inner", {n, d}});
      out.push_back({file + "gate.gate_network.2.weight", gate + "score.outer", {n, n}});
    } else {
      out.push_back({file + "gate.gate_network.weight", gate + "score.weight", {n, d}});
    }
    if (kind_of(plan.moe->gate.options.find("noise"), "none") == "learned_gaussian")
      out.push_back({file + "gate.weight_noise.weight", gate + "noise.weight", {n, d}});
    for (int64_t e = 0; e < n.size; ++e) {
      const auto matrix = [&](const char* name) { return fmt::format("{}calculator.experts.weight_{}.{}", file, name, e); };
      add_gated_expert(out, {matrix("gate"), matrix("up"), matrix("down")}, bank, e, {"intermediate_size / num_experts", plan.moe->d_expert}, s.d_model);
    }
  }

 private:
  static void read_gate(HfConfig& config, MoESpec& m) {
    const int64_t k = config.size("num_selects", 4);
    if (k > m.num_experts) fail(ErrorKind::config, "config.json: num_selects = {} exceeds num_experts = {}", k, m.num_experts);
    const auto network = config.text("gate_network", "mlp");
    if (network != "mlp" && network != "linear") fail(ErrorKind::unsupported, "config.json: gate_network = '{}', expected mlp or linear", network);
    const bool noisy = config.flag("gate_add_noise", true), weighed = config.flag("multiply_gate_scores", true);
    const double floor = config.number("gate_noise_epsilon", kFloor);
    ConfigNode::Table gate;
    if (network == "mlp") gate.emplace_back("score", ConfigNode{{"kind", "mlp"}, {"hidden", m.num_experts}, {"activation", "tanh"}, {"bias", false}});
    if (noisy) gate.emplace_back("noise", floor == kFloor ? ConfigNode("learned_gaussian") : ConfigNode{{"kind", "learned_gaussian"}, {"floor", floor}});
    gate.emplace_back("select", ConfigNode{{"kind", "top_k"}, {"k", k}});
    gate.emplace_back("weigh", weighed ? ConfigNode("softmax_chosen") : ConfigNode{{"kind", "equal"}, {"mean", false}});
    if (k == 1) gate.emplace_back("allow_constant_weight", true);
    m.gate = {"chain", ConfigNode(std::move(gate))};
    const double weight = config.number("gate_balance_loss_weight", 0.01);
    if (!config.flag("gate_use_balance", true) || weight == 0) return;
    m.losses.push_back({"importance", ConfigNode{{"weight", weight}, {"unbiased", true}}});
    if (noisy) m.losses.push_back({"load", ConfigNode{{"weight", weight}, {"unbiased", true}}});  // counts alone have no gradient
  }

  // A pattern where factors differ by layer.
  static void read_layers(HfConfig& config, ModelSpec& s) {
    MoESpec& m = *s.moe;
    if (s.d_ff % m.num_experts != 0) fail(ErrorKind::config, "config.json: num_experts = {} does not divide intermediate_size = {}", m.num_experts, s.d_ff);
    m.d_expert = s.d_ff / m.num_experts;
    check_sizes(config, s);
    const std::vector<double> scales = scales_of(config, s);
    m.routed_scale = scales[0];
    if (std::all_of(scales.begin(), scales.end(), [&](double x) { return x == scales[0]; })) return;
    for (const double scale : scales) {
      LayerSpec& layer = s.pattern.emplace_back();
      layer.kind = "attention+moe";
      layer.moe = ConfigNode{{"routed_scale", scale}};
    }
  }

  static void check_sizes(HfConfig& config, const ModelSpec& s) {
    const auto rows = config.integer_rows("size_experts");
    if (rows.empty()) return;
    if (static_cast<int64_t>(rows.size()) != s.num_layers)
      fail(ErrorKind::config, "config.json: size_experts has {} entries, expected num_hidden_layers = {}", rows.size(), s.num_layers);
    for (size_t i = 0; i < rows.size(); ++i) {
      if (static_cast<int64_t>(rows[i].size()) != s.moe->num_experts)
        fail(ErrorKind::config, "config.json: size_experts[{}] has {} sizes, expected num_experts = {}", i, rows[i].size(), s.moe->num_experts);
      for (const int64_t size : rows[i])
        if (size != s.moe->d_expert)
          fail(ErrorKind::unsupported,
               "config.json: size_experts[{}] holds {}, expected intermediate_size / num_experts = {}: experts of different sizes are not supported", i, size,
               s.moe->d_expert);
    }
  }

  static std::vector<double> scales_of(HfConfig& config, const ModelSpec& s) {
    auto scales = config.numbers("score_scale_factor", 1.0);
    if (scales.size() == 1) scales.resize(static_cast<size_t>(s.num_layers), scales[0]);
    if (static_cast<int64_t>(scales.size()) != s.num_layers)
      fail(ErrorKind::config, "config.json: score_scale_factor has {} entries, expected one number or num_hidden_layers = {}", scales.size(), s.num_layers);
    // The factor is one of scores: without them there is none.
    if (kind_of(s.moe->gate.options.find("weigh"), "") == "equal") std::fill(scales.begin(), scales.end(), 1.0);
    return scales;
  }
};

}  // namespace

FamilyEntry family_llama_moe() {
  return {"llama_moe", "arXiv:2406.16554", "sparse decoder: the networks of Llama cut into experts, a noisy gate of two layers",
          std::make_shared<LlamaMoe>("llama_moe", "LlamaMoEForCausalLM")};
}

}  // namespace switchyard
