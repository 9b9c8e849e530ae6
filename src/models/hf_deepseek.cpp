#include "models/hf_deepseek.h"

#include "models/hf_config.h"
#include "models/rotary.h"
#include "switchyard/error.h"

#include <cmath>
#include <cstdlib>

namespace switchyard {
namespace {

constexpr double kNormOfLatents = 1e-6;  // whatever rms_norm_eps is

// Choice by groups of consecutive experts where the method says so.
ConfigNode selection(const std::string& method, int64_t k, int64_t groups, int64_t keep) {
  if (method == "greedy" || groups <= 1) return ConfigNode{{"kind", "top_k"}, {"k", k}};
  const bool by_two = method == "noaux_tc";
  ConfigNode out{{"kind", "group_limited"}, {"k", k}, {"groups", groups}, {"keep", keep}, {"group_score", by_two ? "sum" : "max"}};
  if (by_two) out.table()->emplace_back("best", 2);
  return out;
}

}  // namespace

void read_deepseek_experts(HfConfig& config, ModelSpec& s, const DeepseekDefaults& absent) {
  s.ffn = gated_kind(config);
  s.d_ff = config.size("intermediate_size");
  MoESpec& m = s.moe.emplace();
  m.experts = s.ffn;
  m.num_experts = config.size("n_routed_experts", absent.num_experts);
  m.d_expert = config.size("moe_intermediate_size");
  m.num_shared_experts = config.integer("n_shared_experts", absent.num_shared);
  m.routed_scale = config.number("routed_scaling_factor", absent.scale);
  const int64_t k = config.size("num_experts_per_tok", absent.top_k);
  const auto scoring = config.text("scoring_func", absent.scoring);
  const auto method = config.text("topk_method", absent.method);
  const int64_t groups = config.size("n_group", absent.groups), keep = config.size("topk_group", absent.keep);
  const bool renormalise = config.flag("norm_topk_prob", absent.renormalise);
  if (scoring != "softmax" && scoring != "sigmoid") fail(ErrorKind::unsupported, "config.json: scoring_func = '{}', expected softmax or sigmoid", scoring);
  if (method != "greedy" && method != "group_limited_greedy" && method != "noaux_tc")
    fail(ErrorKind::unsupported, "config.json: topk_method = '{}', expected greedy, group_limited_greedy or noaux_tc", method);
  const bool biased = method == "noaux_tc";
  if (!biased && scoring == "softmax" && (method == "greedy" || groups <= 1)) {
    m.gate = softmax_top_k(k, renormalise);
  } else {
    ConfigNode::Table gate{{"normalise", scoring}};
    // The bias moved during training and stands still now: gamma = 0 (arXiv:2412.19437 section 4.2).
    if (biased) gate.emplace_back("balance", ConfigNode{{"kind", "bias"}, {"gamma", 0.0}});
    gate.emplace_back("select", selection(method, k, groups, keep));
    gate.emplace_back("weigh", renormalise ? "renormalise" : "raw");
    m.gate = {"chain", ConfigNode(std::move(gate))};
  }
  const double weight = config.number("aux_loss_alpha", 0.0);
  const bool by_sequence = config.flag("seq_aux", true);
  if (weight > 0) m.losses.push_back({by_sequence ? "sequence_balance" : "load_balance", ConfigNode{{"weight", weight}}});
  const int64_t first = config.integer("first_k_dense_replace", absent.first_dense), every = config.size("moe_layer_freq", 1);
  std::vector<bool> is_moe;
  for (int64_t i = 0; i < s.num_layers; ++i) is_moe.push_back(i >= first && i % every == 0);
  if (first >= s.num_layers) s.moe.reset();
  else set_moe_layers(s, is_moe);
}

void write_deepseek_experts(nlohmann::ordered_json& config, const ModelSpec& s) {
  const MoESpec m = s.moe.value_or(MoESpec{});
  config["hidden_act"] = hidden_act_of(m.experts);
  config["intermediate_size"] = s.d_ff;
  config["moe_intermediate_size"] = m.d_expert;
  config["n_routed_experts"] = m.num_experts;
  config["n_shared_experts"] = m.num_shared_experts;
  config["num_experts_per_tok"] = top_k_of(m.gate);
  config["routed_scaling_factor"] = m.routed_scale;
  config["moe_layer_freq"] = m.every;
  config["first_k_dense_replace"] = m.first_k_dense;
  const auto text = [](const ConfigNode* node, const char* absent) {
    std::string out = absent;
    if (node && node->string()) out = *node->string();
    else if (node && node->find("kind") && node->find("kind")->string()) out = *node->find("kind")->string();
    return out;
  };
  const bool chain = m.gate.kind == "chain";
  config["scoring_func"] = chain ? text(m.gate.options.find("normalise"), "softmax") : "softmax";
  config["norm_topk_prob"] = chain ? text(m.gate.options.find("weigh"), "renormalise") == "renormalise" : renormalises(m.gate);
  const ConfigNode* select = chain ? m.gate.options.find("select") : nullptr;
  const bool grouped = text(select, "top_k") == "group_limited", biased = chain && text(m.gate.options.find("balance"), "none") == "bias";
  config["topk_method"] = biased ? "noaux_tc" : grouped ? "group_limited_greedy" : "greedy";
  const auto group = [&](const char* key) {
    int64_t out = 1;
    if (grouped && select->find(key)) read_any(*select->find(key), key, out);
    return out;
  };
  config["n_group"] = group("groups");
  config["topk_group"] = group("keep");
  config["aux_loss_alpha"] = pooled_loss_weight(m);
  config["seq_aux"] = m.losses.empty() || read_loss(m.losses[0]).term.kind == "sequence_balance";
}

void add_deepseek_network(Places& out, const ModelSpec& s, int64_t layer, bool stacked) {
  const auto plan = s.layer(layer);
  const auto file = fmt::format("model.layers.{}.mlp.", layer);
  if (plan.d_ff) add_dense_places(out, s, layer, file);
  if (!plan.moe) return;
  const ExpertKeys keys{"n_routed_experts", "moe_intermediate_size"};
  add_router_place(out, s, layer, file + "gate.weight", keys);
  if (const ConfigNode* balance = plan.moe->gate.options.find("balance"); balance && balance->is_table())
    out.push_back({file + "gate.e_score_correction_bias", fmt::format("layers.{}.ffn.gate.balance.bias", layer), {{"n_routed_experts", plan.moe->num_experts}}});
  if (stacked) add_stacked_experts(out, s, layer, file + "experts.gate_up_proj", file + "experts.down_proj", keys);
  else add_separate_experts(out, s, layer, file + "experts.{}.", kProjNames, keys);
  add_shared_places(out, s, layer, file + "shared_experts.");
}

void read_latent_attention(HfConfig& config, ModelSpec& s, const LatentDefaults& absent, bool yarn_scores) {
  const int64_t q_rank = config.integer("q_lora_rank", config.mentions("q_lora_rank") ? 0 : absent.q_rank);  // null = none
  const int64_t nope = config.size("qk_nope_head_dim", absent.nope_dim), rope = config.size("qk_rope_head_dim", absent.rope_dim);
  const bool bias = config.flag("attention_bias", false);
  ConfigNode::Table o{{"q_rank", q_rank}, {"kv_rank", config.size("kv_lora_rank", absent.kv_rank)}, {"nope_dim", nope}, {"rope_dim", rope},
                      {"v_dim", config.size("v_head_dim", absent.v_dim)}, {"norm_eps", kNormOfLatents}, {"qkv_bias", bias}, {"o_bias", bias}};
  if (yarn_scores && s.rope.scaling == "yarn" && s.rope.mscale_all_dim > 0) {
    const double m = yarn_mscale(s.rope.factor, s.rope.mscale_all_dim);
    o.emplace_back("scale", m * m / std::sqrt(static_cast<double>(nope + rope)));
  }
  s.mixer = {"mla", ConfigNode(std::move(o))};
  s.head_dim = rope;  // of what turns; the mixer has widths of its own
  s.num_kv_heads = s.num_heads;
}

void write_latent_attention(nlohmann::ordered_json& config, const ModelSpec& s) {
  const auto size = [&](const char* key) { return option_of<int64_t>(s.mixer, key, 0); };
  config["attention_bias"] = option_of(s.mixer, "qkv_bias", false);
  config["head_dim"] = size("rope_dim");
  config["kv_lora_rank"] = size("kv_rank");
  config["q_lora_rank"] = size("q_rank") > 0 ? nlohmann::ordered_json(size("q_rank")) : nlohmann::ordered_json(nullptr);
  config["qk_head_dim"] = size("nope_dim") + size("rope_dim");
  config["qk_nope_head_dim"] = size("nope_dim");
  config["qk_rope_head_dim"] = size("rope_dim");
  config["v_head_dim"] = size("v_dim");
}

bool is_extra_prediction(const std::string& stored, const ModelSpec& s) {
  constexpr std::string_view kHead = "model.layers.";
  return stored.starts_with(kHead) && std::atoll(stored.c_str() + kHead.size()) >= s.num_layers;
}

}  // namespace switchyard
