// Skywork-MoE (arXiv:2406.06563): the decoder of Llama with experts, and router logits brought to one deviation per token before the softmax; the
// two best, renormalised.
//
// What the keys mean follows the router that its authors published (Skywork MoE++, arXiv:2410.07348), as the code beside the weights is not part of
// the report: logits are divided by their deviation over E - 1 and not centred, which a softmax does not see, so that lambda of
// `standardise` (deviation over E) is moe_gate_norm_std sqrt((E - 1) / E); moe_use_mixtral_gating only changes the order of softmax and choice,
// which gives the same weights. Nobody says under which names experts are stored: three sets are read, the first is written.
#include "models/hf_decoder.h"
#include "switchyard/error.h"

#include <cmath>
#include <string>

namespace switchyard {
namespace {

struct ExpertNames {
  const char *router, *inner, *outer, *experts;  // behind "model.layers.3."; inner and outer of a router of two layers
  GatedNames matrices;
};

const std::vector<ExpertNames>& known_names() {
  static const std::vector<ExpertNames> all = {
      {"mlp.gate.weight", "mlp.gate.0.weight", "mlp.gate.2.weight", "mlp.experts.{}.", kProjNames},
      {"block_sparse_moe.gate.weight", "block_sparse_moe.gate.0.weight", "block_sparse_moe.gate.2.weight", "block_sparse_moe.experts.{}.", kMixtralNames},
      {"mlp.moe.gate.wg.weight", "mlp.moe.gate.wg.0.weight", "mlp.moe.gate.wg.2.weight", "mlp.moe.experts.experts.{}.", kProjNames},
  };
  return all;
}

double deviation_share(int64_t experts) { return std::sqrt(static_cast<double>(experts - 1) / static_cast<double>(experts)); }

// The shortest key that gives this lambda again.
double norm_std_of(double lambda, int64_t experts) {
  const double share = deviation_share(experts);
  for (const int digits : {15, 16, 17})
    if (const double key = std::stod(fmt::format("{:.{}g}", lambda / share, digits)); key * share == lambda) return key;
  return lambda / share;
}

const ConfigNode* block(const MoESpec& m, const char* key, const char* kind) {
  const ConfigNode* node = m.gate.kind == "chain" ? m.gate.options.find(key) : nullptr;
  const ConfigNode* name = node ? node->find("kind") : nullptr;
  return name && name->string() && *name->string() == kind ? node : nullptr;
}

struct SkyworkMoe final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 2048, .norm_eps = 1e-6, .rope_theta = 10000});
    s.ffn = gated_kind(config);
    s.d_ff = config.size("intermediate_size", 11008);
    MoESpec& m = s.moe.emplace();
    m.experts = s.ffn;
    m.d_expert = s.d_ff;
    read_count(config, m);
    read_gate(config, m);
    config.only("attention_bias", false, "biases in attention are not supported");
    const int64_t interval = config.size("moe_expert_interval", 1);
    if (interval > s.num_layers)
      fail(ErrorKind::config, "config.json: moe_expert_interval = {} leaves no experts in num_hidden_layers = {}", interval, s.num_layers);
    m.every = interval;
    m.offset = interval - 1;
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    const ConfigNode* normalise = block(m, "normalise", "standardise");
    double lambda = 1;
    if (const ConfigNode* node = normalise ? normalise->find("lambda") : nullptr) read_any(*node, "lambda", lambda);
    config["hidden_act"] = hidden_act_of(m.experts);
    config["intermediate_size"] = m.d_expert;
    config["moe_2layer_gate"] = block(m, "score", "mlp") != nullptr;
    config["moe_expert_interval"] = m.every;
    config["moe_feature_no_mul_topk"] = true;
    config["moe_gate_norm_std"] = normalise ? norm_std_of(lambda, m.num_experts) : 1.0;
    config["moe_use_logits_norm"] = normalise != nullptr;
    config["moe_use_mixtral_gating"] = false;
    config["num_experts"] = {m.num_experts};
    config["num_experts_per_tok"] = top_k_of(m.gate);
  }

  std::vector<Places> layouts(const LanguageModel& model) const override {
    const ModelSpec& s = model.spec();
    std::vector<Places> out;
    for (const ExpertNames& names : known_names()) {
      Places& places = out.emplace_back();
      add_outer_places(places, s);
      for (int64_t i = 0; i < s.num_layers; ++i) {
        add_attention_places(places, s, i);
        add_experts(places, s, i, names);
      }
    }
    return out;
  }

  void add_network(Places&, const ModelSpec&, int64_t, bool) const override {}  // layouts() has it all

 private:
  // A list of one, or the number alone.
  static void read_count(HfConfig& config, MoESpec& m) {
    const auto counts = config.numbers("num_experts", 16);
    if (counts.size() != 1) fail(ErrorKind::unsupported, "config.json: num_experts has {} entries; one number for all layers is supported", counts.size());
    m.num_experts = static_cast<int64_t>(counts[0]);
    if (m.num_experts < 2 || static_cast<double>(m.num_experts) != counts[0])
      fail(ErrorKind::config, "config.json: num_experts = {}, expected a whole number of at least 2", counts[0]);
  }

  static void read_gate(HfConfig& config, MoESpec& m) {
    const int64_t k = config.size("num_experts_per_tok", 2);
    if (k > m.num_experts) fail(ErrorKind::config, "config.json: num_experts_per_tok = {} exceeds num_experts = {}", k, m.num_experts);
    const bool two_layers = config.flag("moe_2layer_gate", true), even = config.flag("moe_use_logits_norm", false);
    const double std = config.number("moe_gate_norm_std", 1.0);
    if (even && !(std > 0)) fail(ErrorKind::config, "config.json: moe_gate_norm_std = {}, expected a number above 0", std);
    if (!config.flag("moe_use_mixtral_gating", false) && !config.flag("moe_feature_no_mul_topk", false))
      fail(ErrorKind::unsupported,
           "config.json: moe_feature_no_mul_topk = false without moe_use_mixtral_gating: experts that read twice their input are not supported; expected true");
    config.harmless("moe_feature_no_mul_topk");
    if (!two_layers && !even) {
      m.gate = softmax_top_k(k, true);
      return;
    }
    ConfigNode::Table gate;
    if (two_layers) gate.emplace_back("score", ConfigNode{{"kind", "mlp"}, {"hidden", 8 * m.num_experts}, {"activation", "tanh"}, {"bias", false}});
    if (even) gate.emplace_back("normalise", ConfigNode{{"kind", "standardise"}, {"lambda", std * deviation_share(m.num_experts)}});
    gate.emplace_back("select", ConfigNode{{"kind", "top_k"}, {"k", k}});
    gate.emplace_back("weigh", "renormalise");
    if (k == 1) gate.emplace_back("allow_constant_weight", true);
    m.gate = {"chain", ConfigNode(std::move(gate))};
  }

  static void add_experts(Places& out, const ModelSpec& s, int64_t layer, const ExpertNames& names) {
    const auto plan = s.layer(layer);
    const auto file = fmt::format("model.layers.{}.", layer), score = fmt::format("layers.{}.ffn.gate.score.", layer);
    if (plan.d_ff) add_dense_places(out, s, layer, file + "mlp.");
    if (!plan.moe) return;
    const Dimension n{"num_experts", plan.moe->num_experts}, d{"hidden_size", s.d_model}, hidden{"8 * num_experts", 8 * plan.moe->num_experts};
    if (block(*plan.moe, "score", "mlp")) {
      out.push_back({file + names.inner, score + "inner", {hidden, d}});
      out.push_back({file + names.outer, score + "outer", {n, hidden}});
    } else {
      add_router_place(out, s, layer, file + names.router);
    }
    add_separate_experts(out, s, layer, file + names.experts, names.matrices, {"num_experts", "intermediate_size"});
  }
};

}  // namespace

FamilyEntry family_skywork_moe() {
  return {"skywork_moe",
          "arXiv:2406.06563",
          "sparse decoder: router logits of one deviation per token",
          std::make_shared<SkyworkMoe>("skywork_moe", "SkyworkMoeForCausalLM"),
          1,
          {"SkyworkMoeForCausalLM"}};
}

}  // namespace switchyard
