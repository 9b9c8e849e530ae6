// Five published models of custom code in tiny: config.json, the names and shapes of all tensors, and the logits of a text by loops over the
// stored tensors.
#pragma once

#include "base/config_tree.h"
#include "base/files.h"
#include "models/custom_code_oracle.h"
#include "models/family.h"
#include "switchyard/checkpoint.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <nlohmann/json.hpp>

namespace switchyard::custom_code {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;
using Shapes = std::map<std::string, std::vector<int64_t>>;

inline constexpr int64_t kTokens = 12;

struct Published {
  json config;
  Shapes tensors;
  std::function<Rows(const StoredWeights&)> logits;  // of the tokens 0, 7, 14, ... modulo 40
};

inline std::vector<int64_t> text() {
  std::vector<int64_t> ids;
  for (int64_t t = 0; t < kTokens; ++t) ids.push_back(t * 7 % 40);
  return ids;
}

inline json with(json config, const json& more) {
  for (const auto& [key, value] : more.items()) config[key] = value;
  return config;
}

inline Rows embedded(const StoredWeights& w, const std::string& name, double scale = 1) {
  Rows out;
  for (const int64_t id : text()) {
    Vec& row = out.emplace_back(static_cast<size_t>(w.at(name).shape[1]));
    for (size_t i = 0; i < row.size(); ++i) row[i] = scale * w.at(name).at(id, static_cast<int64_t>(i));
  }
  return out;
}

// ---- OpenMoE: d = 16, H = 4 of width 6, f = 10, blocks 0 and 1, experts in block 1. ----

inline json openmoe_config() {
  return {{"model_type", "openmoe"},
          {"architectures", {"OpenMoeForCausalLM"}},
          {"vocab_size", 40},
          {"hidden_size", 16},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 4},
          {"head_dim", 6},
          {"intermediate_size", 10},
          {"hidden_act", "swiglu"},
          {"max_position_embeddings", 64},
          {"initializer_range", 0.3},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", false},
          {"num_experts", 4},
          {"moe_layer_interval", 2},
          {"router_topk", 2},
          {"router_capacity_factor_train", 1.25},
          {"router_capacity_factor_eval", 0.5},
          {"router_min_capacity", 1},
          {"router_noisy_policy", nullptr},
          {"router_drop_tks", true},
          {"router_aux_loss_factor", 0.01},
          {"router_z_loss_factor", 1e-4},
          {"mlp_gated", true},
          {"z_loss_factor", 0.01},
          {"label_smoothing", 0.001},
          {"dropout_rate", 0.0}};
}

inline Shapes openmoe_tensors() {
  Shapes out{{"model.embed_tokens.weight", {40, 16}}, {"model.norm.weight", {16}}, {"lm_head.weight", {40, 16}}};
  for (const std::string l : {"model.layers.0.", "model.layers.1."}) {
    for (const char* norm : {"input_layernorm.weight", "post_attention_layernorm.weight"}) out[l + norm] = {16};
    for (const char* name : {"q_proj", "k_proj", "v_proj"}) out[l + "self_attn." + name + ".weight"] = {24, 16};
    out[l + "self_attn.o_proj.weight"] = {16, 24};
  }
  for (const std::string network : {"model.layers.0.mlp.", "model.layers.1.extra_mlp."}) {
    out[network + "gate_proj.weight"] = {20, 16};
    out[network + "up_proj.weight"] = {10, 16};
    out[network + "down_proj.weight"] = {16, 10};
  }
  out["model.layers.1.pre_extra_mlp_layernorm.weight"] = {16};
  out["model.layers.1.mlp.gate_weight"] = {4, 16};
  out["model.layers.1.mlp.experts.wi_gate"] = {4, 16, 20};
  out["model.layers.1.mlp.experts.wi_up"] = {4, 16, 10};
  out["model.layers.1.mlp.experts.wo"] = {4, 10, 16};
  return out;
}

// A SwiGLU of what gates, times what is gated.
inline Vec openmoe_inner(const Vec& gate, const Vec& up) {
  Vec h(up.size());
  for (size_t i = 0; i < h.size(); ++i) h[i] = gate[i] * silu(gate[i + h.size()]) * up[i];
  return h;
}

// First choices of all tokens, then second ones, as long as there is room: 0.5 * 2 * 12 / 4 = 3 rows, and an even number of them.
inline Rows openmoe_experts(const StoredWeights& w, const std::string& mlp, const Rows& x) {
  const int64_t room = 4;
  Rows out(x.size(), Vec(x[0].size(), 0.0)), probs;
  for (const Vec& row : x) probs.push_back(softmax(w.linear(mlp + "gate_weight", row)));
  std::vector<int64_t> taken(4, 0);
  int dropped = 0;
  for (size_t choice = 0; choice < 2; ++choice)
    for (size_t t = 0; t < x.size(); ++t) {
      const size_t e = best(probs[t], 2)[choice];
      if (taken[e] == room) {
        ++dropped;
        continue;
      }
      ++taken[e];
      const auto expert = static_cast<int64_t>(e);
      const Vec h = openmoe_inner(w.linear_in_out(mlp + "experts.wi_gate", expert, x[t]), w.linear_in_out(mlp + "experts.wi_up", expert, x[t]));
      add(out[t], w.linear_in_out(mlp + "experts.wo", expert, h), probs[t][e]);
    }
  EXPECT_GT(dropped, 0) << "the room has to be too small for something";
  return out;
}

inline Rows openmoe_logits(const StoredWeights& w) {
  const auto dense = [&](const std::string& name, const Rows& x) {
    return mapped(x, [&](const Vec& row) {
      return w.linear(name + "down_proj.weight", openmoe_inner(w.linear(name + "gate_proj.weight", row), w.linear(name + "up_proj.weight", row)));
    });
  };
  Rows h = embedded(w, "model.embed_tokens.weight");
  for (const std::string l : {"model.layers.0.", "model.layers.1."}) {
    add_to(h, llama_attention(w, l + "self_attn.", normed(h, w.at(l + "input_layernorm.weight"), 1e-6), {4, 4, 6, 6, 1.0}));
    const Rows x = normed(h, w.at(l + "post_attention_layernorm.weight"), 1e-6);
    add_to(h, l == "model.layers.0." ? dense(l + "mlp.", x) : openmoe_experts(w, l + "mlp.", x));
    if (l == "model.layers.1.") add_to(h, dense(l + "extra_mlp.", normed(h, w.at(l + "pre_extra_mlp_layernorm.weight"), 1e-6)));
  }
  return mapped(normed(h, w.at("model.norm.weight"), 1e-6), [&](const Vec& row) { return w.linear("lm_head.weight", row); });
}

// ---- LLaMA-MoE: d = 16, H = 4, G = 2, c = 4, f = 12 = 4 * 3, k = 2; factors 4 and 8. ----

inline json llama_moe_config() {
  return {{"model_type", "llama_moe"},
          {"vocab_size", 40},
          {"hidden_size", 16},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"intermediate_size", 12},
          {"max_position_embeddings", 64},
          {"initializer_range", 0.3},
          {"rms_norm_eps", 1e-5},
          {"num_experts", 4},
          {"num_selects", 2},
          {"size_experts", {{3, 3, 3, 3}, {3, 3, 3, 3}}},
          {"gate_type", "TopKBalancedNoisyGate"},
          {"gate_network", "mlp"},
          {"gate_use_softmax", true},
          {"gate_use_balance", true},
          {"gate_balance_loss_weight", 0.01},
          {"gate_add_noise", true},
          {"gate_noise_epsilon", 0.01},
          {"calculator_type", "UniversalCalculator"},
          {"multiply_gate_scores", true},
          {"score_scale_factor", {4.0, 8.0}},
          {"add_weight_norm", false},
          {"drop_tokens", true},
          {"dropped_padding", "zero"},
          {"capacity_factor", 1.25}};
}

inline Shapes llama_moe_tensors() {
  Shapes out{{"model.embed_tokens.weight", {40, 16}}, {"model.norm.weight", {16}}, {"lm_head.weight", {40, 16}}};
  for (const std::string l : {"model.layers.0.", "model.layers.1."}) {
    for (const char* norm : {"input_layernorm.weight", "post_attention_layernorm.weight"}) out[l + norm] = {16};
    for (const char* name : {"q_proj", "o_proj"}) out[l + "self_attn." + name + ".weight"] = {16, 16};
    for (const char* name : {"k_proj", "v_proj"}) out[l + "self_attn." + name + ".weight"] = {8, 16};
    out[l + "mlp.gate.gate_network.0.weight"] = {4, 16};
    out[l + "mlp.gate.gate_network.2.weight"] = {4, 4};
    out[l + "mlp.gate.weight_noise.weight"] = {4, 16};
    for (const char* e : {"0", "1", "2", "3"}) {
      out[l + "mlp.calculator.experts.weight_gate." + e] = {3, 16};
      out[l + "mlp.calculator.experts.weight_up." + e] = {3, 16};
      out[l + "mlp.calculator.experts.weight_down." + e] = {16, 3};
    }
  }
  return out;
}

inline Rows llama_moe_logits(const StoredWeights& w) {
  Rows h = embedded(w, "model.embed_tokens.weight");
  const double factor[] = {4, 8};
  for (size_t i = 0; i < 2; ++i) {
    const std::string l = "model.layers." + std::to_string(i) + ".", mlp = l + "mlp.";
    add_to(h, llama_attention(w, l + "self_attn.", normed(h, w.at(l + "input_layernorm.weight"), 1e-5), {4, 2, 4, 4, 0.5}));
    const auto experts = [&](const Vec& x) {
      Vec inner = w.linear(mlp + "gate.gate_network.0.weight", x);
      for (double& v : inner) v = std::tanh(v);
      const Vec scores = w.linear(mlp + "gate.gate_network.2.weight", inner);
      const auto chosen = best(scores, 2);
      const Vec weights = softmax({scores[chosen[0]], scores[chosen[1]]});
      Vec y(x.size(), 0.0);
      for (size_t j = 0; j < 2; ++j) {
        const std::string e = std::to_string(chosen[j]), name = mlp + "calculator.experts.weight_";
        add(y, w.linear(name + "down." + e, gated(w.linear(name + "gate." + e, x), w.linear(name + "up." + e, x), silu)), weights[j] * factor[i]);
      }
      return y;
    };
    add_to(h, mapped(normed(h, w.at(l + "post_attention_layernorm.weight"), 1e-5), experts));
  }
  return mapped(normed(h, w.at("model.norm.weight"), 1e-5), [&](const Vec& row) { return w.linear("lm_head.weight", row); });
}

// ---- Skywork-MoE: d = 16, H = 4, f = 10, N = 4, k = 2, one linear router with logits of deviation 1. ----

inline json skywork_config() {
  return {{"model_type", "skywork"},
          {"architectures", {"SkyworkMoeForCausalLM"}},
          {"vocab_size", 40},
          {"hidden_size", 16},
          {"num_hidden_layers", 1},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 4},
          {"intermediate_size", 10},
          {"max_position_embeddings", 64},
          {"initializer_range", 0.3},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000},
          {"num_experts", {4}},
          {"moe_expert_interval", 1},
          {"moe_use_mixtral_gating", false},
          {"moe_2layer_gate", false},
          {"moe_use_logits_norm", true},
          {"moe_gate_norm_std", 1.0},
          {"moe_feature_no_mul_topk", true}};
}

inline Shapes skywork_tensors() {
  const std::string l = "model.layers.0.";
  Shapes out{{"model.embed_tokens.weight", {40, 16}}, {"model.norm.weight", {16}}, {"lm_head.weight", {40, 16}}, {l + "mlp.gate.weight", {4, 16}}};
  for (const char* norm : {"input_layernorm.weight", "post_attention_layernorm.weight"}) out[l + norm] = {16};
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) out[l + "self_attn." + name + ".weight"] = {16, 16};
  for (const char* e : {"0", "1", "2", "3"}) {
    for (const char* name : {".gate_proj.weight", ".up_proj.weight"}) out[l + "mlp.experts." + e + name] = {10, 16};
    out[l + "mlp.experts." + e + ".down_proj.weight"] = {16, 10};
  }
  return out;
}

inline Rows skywork_logits(const StoredWeights& w) {
  const std::string l = "model.layers.0.";
  Rows h = embedded(w, "model.embed_tokens.weight");
  add_to(h, llama_attention(w, l + "self_attn.", normed(h, w.at(l + "input_layernorm.weight"), 1e-5), {4, 4, 4, 4, 0.5}));
  const auto experts = [&](const Vec& x) {
    Vec z = w.linear(l + "mlp.gate.weight", x);
    double mean = 0, squares = 0;
    for (const double v : z) mean += v / 4;
    for (const double v : z) squares += (v - mean) * (v - mean);
    for (double& v : z) v /= std::sqrt(squares / 3);
    const Vec p = softmax(z);
    const auto chosen = best(p, 2);
    Vec y(x.size(), 0.0);
    for (const size_t e : chosen) {
      const std::string name = l + "mlp.experts." + std::to_string(e) + ".";
      add(y, w.linear(name + "down_proj.weight", gated(w.linear(name + "gate_proj.weight", x), w.linear(name + "up_proj.weight", x), silu)),
          p[e] / (p[chosen[0]] + p[chosen[1]]));
    }
    return y;
  };
  add_to(h, mapped(normed(h, w.at(l + "post_attention_layernorm.weight"), 1e-5), experts));
  return mapped(normed(h, w.at("model.norm.weight"), 1e-5), [&](const Vec& row) { return w.linear("lm_head.weight", row); });
}

// ---- Yuan 2.0-M32: d = 12, three heads of width 8 of which 4 turn, f = 10, N = 4, k = 2. ----

inline json yuan_config() {
  return {{"model_type", "yuan"},
          {"vocab_size", 40},
          {"hidden_size", 12},
          {"num_hidden_layers", 1},
          {"num_attention_heads", 3},
          {"attention_projection_size", 24},
          {"intermediate_size", 10},
          {"hidden_act", "silu"},
          {"model_max_length", 64},
          {"initializer_range", 0.3},
          {"rms_norm_eps", 1e-6},
          {"tie_word_embeddings", true},
          {"causal_mask", true},
          {"use_flash_attention", true},
          {"use_shareqk", false},
          {"reset_attention_mask", true},
          {"reset_position_ids", true},
          {"eod_token", 39},
          {"moe_config",
           {{"moe_num_experts", 4},
            {"moe_top_k", 2},
            {"norm_topk_prob", true},
            {"gated_linear_unit", true},
            {"ffn_hidden_size", 10},
            {"router_type", "attn_router"}}}};
}

inline Shapes yuan_tensors() {
  const std::string l = "model.layers.0.", attn = l + "self_attn.", mlp = l + "mlp.";
  Shapes out{{"model.embed_tokens.weight", {40, 12}},
             {"model.norm.weight", {12}},
             {l + "input_layernorm.weight", {12}},
             {l + "post_attention_layernorm.weight", {12}},
             {attn + "q_proj.weight", {24, 12}},
             {attn + "k_proj.weight", {24, 12}},
             {attn + "v_proj.weight", {24, 12}},
             {attn + "o_proj.weight", {12, 24}},
             {attn + "lf_gate.conv1.weight", {6, 12, 2, 1}},
             {attn + "lf_gate.conv1.bias", {6}},
             {attn + "lf_gate.conv2.weight", {12, 6, 2, 1}},
             {attn + "lf_gate.conv2.bias", {12}},
             {attn + "lf_gate.output_layernorm.weight", {12}},
             {mlp + "gate.query.weight", {4, 12}},
             {mlp + "gate.key.weight", {4, 12}},
             {mlp + "gate.value.weight", {4, 12}}};
  for (const char* e : {"0", "1", "2", "3"}) {
    out[mlp + "experts." + e + ".w1.weight"] = {20, 12};
    out[mlp + "experts." + e + ".w2.weight"] = {12, 10};
  }
  return out;
}

// A convolution over the token before (tap 0) and the token itself (tap 1), zeros in front of the text.
inline Rows two_taps(const StoredWeights& w, const std::string& name, const Rows& x) {
  const Stored& k = w.at(name + ".weight");
  Rows out;
  for (size_t t = 0; t < x.size(); ++t) {
    Vec& y = out.emplace_back(w.at(name + ".bias").values);
    for (size_t o = 0; o < y.size(); ++o)
      for (size_t i = 0; i < x[t].size(); ++i) {
        if (t > 0) y[o] += k.at(static_cast<int64_t>(o), static_cast<int64_t>(2 * i)) * x[t - 1][i];
        y[o] += k.at(static_cast<int64_t>(o), static_cast<int64_t>(2 * i + 1)) * x[t][i];
      }
  }
  return out;
}

inline Rows yuan_attention(const StoredWeights& w, const std::string& attn, const Rows& x) {
  Rows f = two_taps(w, attn + "lf_gate.conv2", two_taps(w, attn + "lf_gate.conv1", x));
  add_to(f, x);
  f = normed(f, w.at(attn + "lf_gate.output_layernorm.weight"), 1e-6);
  // The joint product of both matrices is cut into heads, each of them into query and key.
  Rows q, k;
  for (const Vec& row : f) {
    Vec joint = w.linear(attn + "q_proj.weight", row);
    const Vec rest = w.linear(attn + "k_proj.weight", row);
    joint.insert(joint.end(), rest.begin(), rest.end());
    Vec &query = q.emplace_back(), &key = k.emplace_back();
    for (size_t n = 0; n < joint.size(); ++n) (n % 16 < 8 ? query : key).push_back(joint[n]);
  }
  const Rows v = mapped(x, [&](const Vec& row) { return w.linear(attn + "v_proj.weight", row); });
  return mapped(attend(q, k, v, {3, 3, 8, 4, 1 / std::sqrt(8.0)}), [&](const Vec& row) { return w.linear(attn + "o_proj.weight", row); });
}

inline Rows yuan_logits(const StoredWeights& w) {
  const std::string l = "model.layers.0.", mlp = l + "mlp.";
  Rows h = embedded(w, "model.embed_tokens.weight");
  add_to(h, yuan_attention(w, l + "self_attn.", normed(h, w.at(l + "input_layernorm.weight"), 1e-6)));
  const auto experts = [&](const Vec& x) {
    const Vec q = w.linear(mlp + "gate.query.weight", x), k = w.linear(mlp + "gate.key.weight", x), v = w.linear(mlp + "gate.value.weight", x);
    Vec z;
    for (const double qi : q) {
      Vec scores;
      for (const double kj : k) scores.push_back(qi * kj);
      const Vec a = softmax(scores);
      z.push_back(std::inner_product(a.begin(), a.end(), v.begin(), 0.0));
    }
    const Vec p = softmax(z);
    const auto chosen = best(p, 2);
    Vec y(x.size(), 0.0);
    for (const size_t e : chosen) {
      const std::string name = mlp + "experts." + std::to_string(e);
      const Vec inner = gated(w.linear(name + ".w1.weight", x, 0, 10), w.linear(name + ".w1.weight", x, 10, 10), silu);
      add(y, w.linear(name + ".w2.weight", inner), p[e] / (p[chosen[0]] + p[chosen[1]]));
    }
    return y;
  };
  add_to(h, mapped(normed(h, w.at(l + "post_attention_layernorm.weight"), 1e-6), experts));
  return mapped(normed(h, w.at("model.norm.weight"), 1e-6), [&](const Vec& row) { return w.linear("model.embed_tokens.weight", row); });
}

// ---- Grok-1: d = 16, H = 4, G = 2, c = 4, f = 10, N = 4, k = 2; a cap that bites. ----

inline json grok_config() {
  return {{"model_type", "grok-1"},
          {"vocab_size", 40},
          {"hidden_size", 16},
          {"num_hidden_layers", 1},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"intermediate_size", 10},
          {"max_position_embeddings", 64},
          {"initializer_range", 0.3},
          {"rms_norm_eps", 1e-5},
          {"tie_word_embeddings", true},
          {"num_experts", 4},
          {"num_experts_per_tok", 2},
          {"attn_output_multiplier", 0.75},
          {"max_attn_value", 2.0},
          {"embedding_multiplier_scale", 3.5},
          {"output_multiplier_scale", 0.57},
          {"router_aux_loss_coef", 0.001}};
}

inline Shapes grok_tensors() {
  const std::string l = "transformer.decoder_layer.0.", attn = l + "multi_head_attention.";
  Shapes out{{"transformer.in_out_embed.weight", {40, 16}},
             {"transformer.rms_norm.weight", {16}},
             {l + "router.weight", {4, 16}},
             {attn + "query.weight", {16, 16}},
             {attn + "key.weight", {8, 16}},
             {attn + "value.weight", {8, 16}},
             {attn + "linear.weight", {16, 16}}};
  for (const char* norm : {"rms_norm", "rms_norm_1", "rms_norm_2", "rms_norm_3"}) out[l + norm + ".weight"] = {16};
  for (const char* e : {"0", "1", "2", "3"}) {
    out[l + "moe." + e + ".linear.weight"] = out[l + "moe." + e + ".linear_v.weight"] = {10, 16};
    out[l + "moe." + e + ".linear_1.weight"] = {16, 10};
  }
  return out;
}

inline Rows grok_logits(const StoredWeights& w) {
  const std::string l = "transformer.decoder_layer.0.", attn = l + "multi_head_attention.", embed = "transformer.in_out_embed.weight";
  const auto norm = [&](const Rows& x, const std::string& name) { return normed(x, w.at(name + ".weight"), 1e-5); };
  Rows h = embedded(w, embed, 3.5);
  const Rows x = norm(h, l + "rms_norm");
  const auto project = [&](const char* name) { return mapped(x, [&](const Vec& row) { return w.linear(attn + name + ".weight", row); }); };
  const Rows heads = attend(project("query"), project("key"), project("value"), {4, 2, 4, 4, 0.75, 2.0});
  add_to(h, norm(mapped(heads, [&](const Vec& row) { return w.linear(attn + "linear.weight", row); }), l + "rms_norm_1"));
  const auto experts = [&](const Vec& row) {
    const Vec p = softmax(w.linear(l + "router.weight", row));
    Vec y(row.size(), 0.0);
    for (const size_t e : best(p, 2)) {
      const std::string name = l + "moe." + std::to_string(e) + ".";
      add(y, w.linear(name + "linear_1.weight", gated(w.linear(name + "linear.weight", row), w.linear(name + "linear_v.weight", row), gelu_tanh)), p[e]);
    }
    return y;
  };
  add_to(h, norm(mapped(norm(h, l + "rms_norm_2"), experts), l + "rms_norm_3"));
  return mapped(norm(h, "transformer.rms_norm"), [&](const Vec& row) {
    Vec out = w.linear(embed, row);
    for (double& v : out) v *= 0.57;
    return out;
  });
}

inline const std::map<std::string, Published>& published() {
  static const std::map<std::string, Published> all = {{"openmoe", {openmoe_config(), openmoe_tensors(), openmoe_logits}},
                                                       {"llama_moe", {llama_moe_config(), llama_moe_tensors(), llama_moe_logits}},
                                                       {"skywork_moe", {skywork_config(), skywork_tensors(), skywork_logits}},
                                                       {"yuan", {yuan_config(), yuan_tensors(), yuan_logits}},
                                                       {"grok-1", {grok_config(), grok_tensors(), grok_logits}}};
  return all;
}

inline ModelSpec read(const std::string& family, const json& config) {
  return find_family(family).family->read_config(config_from_json(config, "config.json"));
}

inline torch::Tensor logits_of(LanguageModel& model) {
  const c10::NoGradGuard no_grad;
  model.eval();
  const auto ids = torch::tensor(text(), torch::kInt64).view({1, kTokens});
  return model.logits(model.forward({.input_ids = ids, .positions = {}, .segments = {}}).hidden)[0];
}

inline Checkpoint random_checkpoint(const ModelSpec& spec) {
  const c10::NoGradGuard no_grad;
  Checkpoint out;
  out.model = std::make_shared<LanguageModel>(spec, 3);
  // Nothing may hide behind ones and zeros.
  for (const auto& item : out.model->named_parameters()) item.value().add_(0.05 * at::arange(item.value().numel()).sin().view(item.value().sizes()));
  return out;
}

inline void change_json(const fs::path& file, const json& more) { write_file_atomic(file, with(json::parse(read_text_file(file)), more).dump(2) + "\n"); }

}  // namespace switchyard::custom_code
