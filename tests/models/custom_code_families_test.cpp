// Families whose published form is custom code: all names and shapes written down by hand, whole models against loops over the stored tensors
// (custom_code_oracle.h), other spellings, and what is refused.
#include "base/config_tree.h"
#include "base/files.h"
#include "expect_error.h"
#include "io/safetensors_writer.h"
#include "models/canonical_spec.h"
#include "models/custom_code_oracle.h"
#include "models/family.h"
#include "models/slice_network.h"
#include "models/stored_tensors.h"
#include "models/convert.h"
#include "switchyard/checkpoint.h"
#include "test_files.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace switchyard::custom_code_families_test {  // its own: tests of a folder compile as one unit
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;
using namespace custom_code;
using testing::TempDir;
using Shapes = std::map<std::string, std::vector<int64_t>>;

constexpr int64_t kTokens = 12;

struct Published {
  json config;
  Shapes tensors;
  std::function<Rows(const StoredWeights&)> logits;  // of the tokens 0, 7, 14, ... modulo 40
};

std::vector<int64_t> text() {
  std::vector<int64_t> ids;
  for (int64_t t = 0; t < kTokens; ++t) ids.push_back(t * 7 % 40);
  return ids;
}

json with(json config, const json& more) {
  for (const auto& [key, value] : more.items()) config[key] = value;
  return config;
}

Rows embedded(const StoredWeights& w, const std::string& name, double scale = 1) {
  Rows out;
  for (const int64_t id : text()) {
    Vec& row = out.emplace_back(static_cast<size_t>(w.at(name).shape[1]));
    for (size_t i = 0; i < row.size(); ++i) row[i] = scale * w.at(name).at(id, static_cast<int64_t>(i));
  }
  return out;
}

Rows normed(const Rows& x, const Stored& weight, double eps) {
  Rows out;
  for (const Vec& row : x) out.push_back(rms_norm(row, weight, eps));
  return out;
}

Rows mapped(const Rows& x, const std::function<Vec(const Vec&)>& f) {
  Rows out;
  for (const Vec& row : x) out.push_back(f(row));
  return out;
}

void add_to(Rows& h, const Rows& branch) {
  for (size_t t = 0; t < h.size(); ++t) add(h[t], branch[t]);
}

// Attention of the Llama line on normed rows.
Rows llama_attention(const StoredWeights& w, const std::string& attn, const Rows& x, const Heads& heads) {
  const auto project = [&](const char* name) { return mapped(x, [&](const Vec& row) { return w.linear(attn + name + ".weight", row); }); };
  return mapped(attend(project("q_proj"), project("k_proj"), project("v_proj"), heads), [&](const Vec& row) { return w.linear(attn + "o_proj.weight", row); });
}

// ---- OpenMoE: d = 16, H = 4 of width 6, f = 10, blocks 0 and 1, experts in block 1. ----

json openmoe_config() {
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

Shapes openmoe_tensors() {
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
Vec openmoe_inner(const Vec& gate, const Vec& up) {
  Vec h(up.size());
  for (size_t i = 0; i < h.size(); ++i) h[i] = gate[i] * silu(gate[i + h.size()]) * up[i];
  return h;
}

// First choices of all tokens, then second ones, as long as there is room: 0.5 * 2 * 12 / 4 = 3 rows, and an even number of them.
Rows openmoe_experts(const StoredWeights& w, const std::string& mlp, const Rows& x) {
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

Rows openmoe_logits(const StoredWeights& w) {
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

json llama_moe_config() {
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

Shapes llama_moe_tensors() {
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

Rows llama_moe_logits(const StoredWeights& w) {
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

json skywork_config() {
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

Shapes skywork_tensors() {
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

Rows skywork_logits(const StoredWeights& w) {
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

json yuan_config() {
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

Shapes yuan_tensors() {
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
Rows two_taps(const StoredWeights& w, const std::string& name, const Rows& x) {
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

Rows yuan_attention(const StoredWeights& w, const std::string& attn, const Rows& x) {
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

Rows yuan_logits(const StoredWeights& w) {
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

json grok_config() {
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

Shapes grok_tensors() {
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

Rows grok_logits(const StoredWeights& w) {
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

const std::map<std::string, Published>& published() {
  static const std::map<std::string, Published> all = {{"openmoe", {openmoe_config(), openmoe_tensors(), openmoe_logits}},
                                                       {"llama_moe", {llama_moe_config(), llama_moe_tensors(), llama_moe_logits}},
                                                       {"skywork_moe", {skywork_config(), skywork_tensors(), skywork_logits}},
                                                       {"yuan", {yuan_config(), yuan_tensors(), yuan_logits}},
                                                       {"grok-1", {grok_config(), grok_tensors(), grok_logits}}};
  return all;
}

ModelSpec read(const std::string& family, const json& config) { return find_family(family).family->read_config(config_from_json(config, "config.json")); }

torch::Tensor logits_of(LanguageModel& model) {
  const c10::NoGradGuard no_grad;
  model.eval();
  const auto ids = torch::tensor(text(), torch::kInt64).view({1, kTokens});
  return model.logits(model.forward({.input_ids = ids, .positions = {}, .segments = {}}).hidden)[0];
}

Checkpoint random_checkpoint(const ModelSpec& spec) {
  const c10::NoGradGuard no_grad;
  Checkpoint out;
  out.model = std::make_shared<LanguageModel>(spec, 3);
  // Nothing may hide behind ones and zeros.
  for (const auto& item : out.model->named_parameters()) item.value().add_(0.05 * at::arange(item.value().numel()).sin().view(item.value().sizes()));
  return out;
}

void change_json(const fs::path& file, const json& more) { write_file_atomic(file, with(json::parse(read_text_file(file)), more).dump(2) + "\n"); }

class CustomCode : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    saved_ = random_checkpoint(read(GetParam(), published().at(GetParam()).config));
    save_checkpoint(saved_, dir_ / "a", {.family = GetParam()});
  }
  TempDir dir_;
  Checkpoint saved_;
};

TEST_P(CustomCode, NamesAndShapesAreThosePublished) {
  Shapes found;
  const auto files = SafetensorsSet::open(dir_ / "a");
  for (const TensorEntry* entry : files.entries()) found[entry->name] = entry->shape;
  EXPECT_EQ(found, published().at(GetParam()).tensors);
}

TEST_P(CustomCode, TheModelComputesWhatLoopsOverItsStoredTensorsDo) {
  const auto want = published().at(GetParam()).logits(StoredWeights(dir_ / "a"));
  const auto got = logits_of(*load_checkpoint(dir_ / "a").model);
  double most = 0, error = 0;
  for (int64_t t = 0; t < kTokens; ++t)
    for (int64_t v = 0; v < 40; ++v) {
      const double expected = want[static_cast<size_t>(t)][static_cast<size_t>(v)];
      most = std::max(most, std::abs(expected));
      error = std::max(error, std::abs(expected - got[t][v].item<double>()));
    }
  EXPECT_GT(most, 0.1);
  EXPECT_LT(error, 2e-5 * most);
}

TEST_P(CustomCode, LoadedAndSavedAgainItIsTheSameFilesAndTheSameLogits) {
  const json bookkeeping{{"auto_map", {{"AutoConfig", "configuration.Config"}}}, {"transformers_version", "4.31.0"}};
  change_json(dir_ / "a/config.json", bookkeeping);
  const auto loaded = load_checkpoint(dir_ / "a");
  EXPECT_EQ(loaded.family, GetParam());
  EXPECT_TRUE(torch::equal(logits_of(*loaded.model), logits_of(*saved_.model)));
  save_checkpoint(loaded, dir_ / "b");
  const auto again = json::parse(read_text_file(dir_ / "b/config.json"));
  for (const auto& [key, value] : bookkeeping.items()) EXPECT_EQ(again[key], value);
  save_checkpoint(load_checkpoint(dir_ / "b"), dir_ / "c");
  EXPECT_EQ(read_text_file(dir_ / "a/model.safetensors"), read_text_file(dir_ / "b/model.safetensors"));
  for (const char* file : {"config.json", "model.safetensors"}) EXPECT_EQ(read_text_file(dir_ / "b" / file), read_text_file(dir_ / "c" / file)) << file;
}

TEST_P(CustomCode, GenerationTokenByTokenGivesTheLogitsOfTheWholeText) {
  if (GetParam() == "openmoe") change_json(dir_ / "a/config.json", {{"router_capacity_factor_eval", 8.0}});  // room depends on how many come at once
  auto model = load_checkpoint(dir_ / "a").model;
  const auto whole = logits_of(*model);
  const c10::NoGradGuard no_grad;
  KvCache cache(model->spec(), 1, kTokens);
  for (int64_t t = 0; t < kTokens; ++t) {
    const auto step = model->logits(
        model->forward({.input_ids = torch::tensor({{text()[static_cast<size_t>(t)]}}, torch::kInt64), .positions = {}, .segments = {}}, {.cache = &cache})
            .hidden);
    EXPECT_LT((step[0][0] - whole[t]).abs().max().item<double>(), 1e-4 * whole.abs().max().item<double>()) << t;
  }
}

TEST_P(CustomCode, APublishedConfigIsStatedByItsOwnFamily) {
  EXPECT_EQ(cannot_state(find_family(GetParam()), read(GetParam(), published().at(GetParam()).config)), std::nullopt);
}

INSTANTIATE_TEST_SUITE_P(All, CustomCode, ::testing::Values("openmoe", "llama_moe", "skywork_moe", "yuan", "grok-1"), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// ---- other names of the same tensors ----

// The folder with every tensor renamed by the first rule that applies: {text, what stands there instead}.
void rename_tensors(const fs::path& from, const fs::path& to, const std::vector<std::pair<std::string, std::string>>& rules) {
  fs::create_directories(to);
  const auto files = SafetensorsSet::open(from);
  std::vector<TensorSource> tensors;
  for (const TensorEntry* entry : files.entries()) {
    std::string name = entry->name;
    for (const auto& [text, instead] : rules)
      if (const size_t at = name.find(text); at != std::string::npos) name.replace(at, text.size(), instead);
    tensors.push_back(as_stored(name, as_tensor(*entry)));
  }
  write_safetensors(to / "model.safetensors", tensors);
  write_file_atomic(to / "config.json", read_text_file(from / "config.json"));
}

TEST(CustomCodeNames, PortsOfGrokAreReadUnderEachOfTheirNames) {
  const TempDir dir;
  const auto saved = random_checkpoint(read("grok-1", grok_config()));
  save_checkpoint(saved, dir / "a", {.family = "grok-1"});
  const std::vector<std::pair<std::string, std::string>> outer = {{"transformer.in_out_embed", "model.embed_tokens"},
                                                                  {"transformer.decoder_layer.", "model.layers."}},
                                                         inner = {{"query.", "q_proj."},
                                                                  {"key.", "k_proj."},
                                                                  {"value.", "v_proj."},
                                                                  {"attn.linear.", "attn.o_proj."}};
  auto b = outer, c = outer;
  for (const auto& rule : {std::pair{"rms_norm_1.weight", "post_attn_norm.scale"},
                           {"rms_norm_2.weight", "pre_moe_norm.scale"},
                           {"rms_norm_3.weight", "post_moe_norm.scale"},
                           {"transformer.rms_norm.weight", "model.norm.scale"},
                           {"rms_norm.weight", "pre_attn_norm.scale"},
                           {"multi_head_attention.", "attn."},
                           {"router.", "moe_block.gate."},
                           {".moe.", ".moe_block.experts."}})
    b.emplace_back(rule);
  for (const auto& rule : {std::pair{"rms_norm_1.", "post_attn_norm."},
                           {"rms_norm_2.", "pre_moe_norm."},
                           {"rms_norm_3.", "post_moe_norm."},
                           {"transformer.rms_norm.", "model.norm."},
                           {"rms_norm.", "pre_attn_norm."},
                           {"multi_head_attention.", "self_attn."},
                           {"router.", "block_sparse_moe.gate."},
                           {".moe.", ".block_sparse_moe.experts."},
                           {"linear_v.", "w3."},
                           {"linear_1.", "w2."},
                           {"attn.linear.", "attn.o_proj."},
                           {".linear.", ".w1."}})
    c.emplace_back(rule);
  for (auto* rules : {&b, &c}) rules->insert(rules->end(), inner.begin(), inner.end());
  rename_tensors(dir / "a", dir / "b", b);
  rename_tensors(dir / "a", dir / "c", c);
  const auto want = logits_of(*saved.model);
  ASSERT_TRUE(SafetensorsSet::open(dir / "b").find("model.layers.0.moe_block.experts.3.linear_v.weight"));
  ASSERT_TRUE(SafetensorsSet::open(dir / "b").find("model.layers.0.attn.o_proj.weight"));
  ASSERT_TRUE(SafetensorsSet::open(dir / "c").find("model.layers.0.block_sparse_moe.experts.3.w1.weight"));
  for (const char* folder : {"b", "c"}) EXPECT_TRUE(torch::equal(logits_of(*load_checkpoint(dir / folder).model), want)) << folder;
}

TEST(CustomCodeNames, ExpertsOfSkyworkAreReadUnderEachOfTheirNames) {
  for (const bool two_layers : {false, true}) {
    const TempDir dir;
    const auto saved = random_checkpoint(read("skywork_moe", with(skywork_config(), {{"moe_2layer_gate", two_layers}})));
    save_checkpoint(saved, dir / "a", {.family = "skywork_moe"});
    rename_tensors(dir / "a", dir / "b", {{"mlp.", "block_sparse_moe."}, {"gate_proj", "w1"}, {"up_proj", "w3"}, {"down_proj", "w2"}});
    rename_tensors(dir / "a", dir / "c", {{"mlp.gate.", "mlp.moe.gate.wg."}, {"mlp.experts.", "mlp.moe.experts.experts."}});
    ASSERT_TRUE(SafetensorsSet::open(dir / "c").find(two_layers ? "model.layers.0.mlp.moe.gate.wg.2.weight" : "model.layers.0.mlp.moe.gate.wg.weight"));
    for (const char* folder : {"b", "c"}) EXPECT_TRUE(torch::equal(logits_of(*load_checkpoint(dir / folder).model), logits_of(*saved.model))) << folder;
  }
}

// The code of OpenMoE has the configuration class of Llama, that of Skywork-MoE the model_type of a dense model.
TEST(CustomCodeNames, ArchitecturesSayTheFamilyWhereModelTypeIsThatOfAnother) {
  const auto family = [](json config) { return family_of(config_from_json(config, "config.json"), "config.json").name; };
  EXPECT_EQ(family({{"model_type", "llama"}, {"architectures", {"OpenMoeForCausalLM"}}}), "openmoe");
  EXPECT_EQ(family({{"model_type", "skywork"}, {"architectures", {"SkyworkMoeForCausalLM"}}}), "skywork_moe");
  EXPECT_EQ(family({{"model_type", "llama"}, {"architectures", {"LlamaForCausalLM"}}}), "llama");
  EXPECT_EQ(family({{"model_type", "grok"}}), "grok-1");
  testing::expect_error(ErrorKind::unsupported, {"'skywork'", "skywork_moe"}, [&] {
    (void)family({{"model_type", "skywork"}, {"architectures", {"SkyworkForCausalLM"}}});
  });
  testing::expect_error(ErrorKind::config, {"config.json", "'model_type' is missing"}, [&] { (void)family({{"architectures", {"OpenMoeForCausalLM"}}}); });
  const TempDir dir;
  save_checkpoint(random_checkpoint(read("openmoe", openmoe_config())), dir / "a", {.family = "openmoe"});
  change_json(dir / "a/config.json", {{"model_type", "llama"}});
  EXPECT_EQ(load_checkpoint(dir / "a").family, "openmoe");
}

// ---- other values of the keys ----

// Reads, writes and reads again; a tiny model goes to a folder and back.
ModelSpec stated(const std::string& family, const json& change) {
  const auto config = with(published().at(family).config, change);
  const ModelSpec spec = read(family, config).resolved();
  EXPECT_EQ(cannot_state(find_family(family), spec), std::nullopt) << config.dump();
  const TempDir dir;
  const auto saved = random_checkpoint(spec);
  save_checkpoint(saved, dir / "a", {.family = family});
  EXPECT_TRUE(torch::equal(logits_of(*load_checkpoint(dir / "a").model), logits_of(*saved.model))) << config.dump();
  return spec;
}

TEST(CustomCodeKeys, OtherValuesSurviveTheWayThroughTheSpecification) {
  EXPECT_EQ(stated("openmoe", {{"hidden_act", "silu"}}).ffn.kind, "swiglu");
  EXPECT_EQ(stated("openmoe", {{"moe_layer_interval", 1}}).num_layers, 4);
  EXPECT_EQ(stated("openmoe", {{"num_hidden_layers", 5}, {"router_topk", 1}}).num_layers, 5 + 2);
  EXPECT_EQ(stated("llama_moe", {{"score_scale_factor", 4.0}, {"size_experts", nullptr}}).moe->routed_scale, 4);
  EXPECT_EQ(stated("llama_moe", {{"gate_network", "linear"}, {"gate_noise_epsilon", 0.5}}).moe->gate.options.find("score"), nullptr);
  EXPECT_EQ(stated("llama_moe", {{"gate_add_noise", false}}).moe->losses.size(), 1u);
  EXPECT_TRUE(stated("llama_moe", {{"gate_use_balance", false}, {"num_selects", 1}}).moe->losses.empty());
  EXPECT_EQ(stated("llama_moe", {{"multiply_gate_scores", false}}).moe->routed_scale, 1);
  EXPECT_EQ(stated("skywork_moe", {{"moe_use_logits_norm", false}, {"moe_use_mixtral_gating", true}, {"num_experts", 4}}).moe->gate.kind, "top_k");
  EXPECT_EQ(stated("skywork_moe", {{"moe_expert_interval", 2}, {"num_hidden_layers", 4}, {"moe_gate_norm_std", 1.7}}).moe->every, 2);
  EXPECT_FALSE(stated("yuan", {{"moe_config", nullptr}}).moe.has_value());
  EXPECT_EQ(stated("yuan", {{"attention_projection_size", nullptr}}).rope.dims, 0);
  EXPECT_EQ(stated("grok-1", {{"hidden_act", "gelu"}, {"tie_word_embeddings", false}}).moe->experts.kind, "geglu");
}

TEST(CustomCodeKeys, WhatIsNotSupportedIsRefusedByName) {
  const auto refused = [](const std::string& family, ErrorKind kind, std::initializer_list<std::string_view> words, const json& change) {
    testing::expect_error(kind, words, [&] { (void)read(family, with(published().at(family).config, change)).resolved(); });
  };
  constexpr auto no = ErrorKind::unsupported, wrong = ErrorKind::config;
  refused("openmoe", no, {"hidden_act = 'relu'"}, {{"hidden_act", "relu"}});
  refused("openmoe", no, {"router_topk = 3"}, {{"router_topk", 3}});
  refused("openmoe", no, {"router_noisy_policy", "Jitter"}, {{"router_noisy_policy", "Jitter"}});
  refused("openmoe", no, {"router_drop_tks = false"}, {{"router_drop_tks", false}});
  refused("openmoe", no, {"mlp_gated = false"}, {{"mlp_gated", false}});
  refused("openmoe", no, {"rope_theta = 500"}, {{"rope_theta", 500.0}});
  refused("openmoe", wrong, {"moe_layer_interval = 3", "num_hidden_layers = 2"}, {{"moe_layer_interval", 3}});
  refused("openmoe", no, {"'router_bias' (= true)"}, {{"router_bias", true}});
  refused("llama_moe", no, {"gate_type", "SwitchBalancedGate"}, {{"gate_type", "SwitchBalancedGate"}});
  refused("llama_moe", no, {"calculator_type", "SwitchDropTokenCalculator"}, {{"calculator_type", "SwitchDropTokenCalculator"}});
  refused("llama_moe", no, {"gate_use_softmax = false"}, {{"gate_use_softmax", false}});
  refused("llama_moe", no, {"add_weight_norm = true"}, {{"add_weight_norm", true}});
  refused("llama_moe", no, {"gate_network = 'attention'"}, {{"gate_network", "attention"}});
  refused("llama_moe", no, {"size_experts[1] holds 2", "expected intermediate_size / num_experts = 3"}, {{"size_experts", {{3, 3, 3, 3}, {2, 4, 3, 3}}}});
  refused("llama_moe", wrong, {"size_experts has 1 entries", "num_hidden_layers = 2"}, {{"size_experts", {{3, 3, 3, 3}}}});
  refused("llama_moe", wrong, {"size_experts[0] has 2 sizes", "num_experts = 4"}, {{"size_experts", {{6, 6}, {6, 6}}}});
  refused("llama_moe", wrong, {"size_experts", "a list of lists"}, {{"size_experts", 3}});
  refused("llama_moe", wrong, {"score_scale_factor has 3 entries", "num_hidden_layers = 2"}, {{"score_scale_factor", {4.0, 4.0, 4.0}}});
  refused("llama_moe", wrong, {"num_selects = 5", "num_experts = 4"}, {{"num_selects", 5}});
  refused("llama_moe", no, {"rope_theta = 500"}, {{"rope_theta", 500.0}});
  refused("skywork_moe", no, {"moe_feature_no_mul_topk = false"}, {{"moe_feature_no_mul_topk", false}});
  refused("skywork_moe", no, {"num_experts has 2 entries"}, {{"num_experts", {4, 4}}});
  refused("skywork_moe", wrong, {"num_experts = 2.5"}, {{"num_experts", 2.5}});
  refused("skywork_moe", wrong, {"moe_gate_norm_std = 0"}, {{"moe_gate_norm_std", 0.0}});
  refused("skywork_moe", no, {"rope_scaling.type", "ntk"}, {{"rope_scaling", {{"type", "ntk"}, {"factor", 2.0}}}});
  refused("yuan", no, {"use_shareqk = true"}, {{"use_shareqk", true}});
  refused("yuan", no, {"causal_mask = false"}, {{"causal_mask", false}});
  refused("yuan", no, {"rms_norm_eps = 1e-05", "1e-06"}, {{"rms_norm_eps", 1e-5}});
  refused("yuan", no, {"num_key_value_heads = 1"}, {{"num_key_value_heads", 1}});
  refused("yuan", wrong, {"num_attention_heads = 3", "attention_projection_size = 25"}, {{"attention_projection_size", 25}});
  refused("yuan", no, {"attention_projection_size = 6", "hidden_size = 12"}, {{"attention_projection_size", 6}});
  const auto moe = [](const json& change) { return json{{"moe_config", with(yuan_config()["moe_config"], change)}}; };
  refused("yuan", no, {"router_type", "dense"}, moe({{"router_type", "dense"}}));
  refused("yuan", no, {"gated_linear_unit = false"}, moe({{"gated_linear_unit", false}}));
  refused("yuan", no, {"moe_config.moe_bias"}, moe({{"moe_bias", 1}}));
  refused("yuan", wrong, {"moe_config.moe_top_k = 5", "moe_num_experts = 4"}, moe({{"moe_top_k", 5}}));
  refused("grok-1", no, {"'residual_moe' (= true)"}, {{"residual_moe", true}});
  refused("grok-1", wrong, {"'embedding_multiplier_scale' is missing"}, {{"embedding_multiplier_scale", nullptr}});
  refused("grok-1", no, {"hidden_act = 'relu'"}, {{"hidden_act", "relu"}});
  refused("grok-1", wrong, {"num_experts_per_tok = 5", "num_experts = 4"}, {{"num_experts_per_tok", 5}});
}

TEST(CustomCodeKeys, AModelThatAFamilyCannotSayIsRefusedByName) {
  const auto reason = [](const std::string& family, const std::function<void(ModelSpec&)>& change) {
    ModelSpec s = read(family, published().at(family).config);
    change(s);
    return cannot_state(find_family(family), s).value_or("");
  };
  EXPECT_NE(reason("openmoe", [](ModelSpec& s) { s.mixer = "attention"; }).find("mixer.scale = 0"), std::string::npos);
  EXPECT_NE(reason("openmoe", [](ModelSpec& s) { s.moe->capacity.rounding = "ceil"; }).find("rounding"), std::string::npos);
  EXPECT_NE(reason("llama_moe", [](ModelSpec& s) { s.moe->losses[0] = {"importance", {{"weight", 0.01}}}; }).find("losses.0"), std::string::npos);
  EXPECT_NE(reason("skywork_moe", [](ModelSpec& s) { s.moe->num_shared_experts = 1; }).find("num_shared_experts = 1"), std::string::npos);
  EXPECT_NE(reason("yuan", [](ModelSpec& s) { s.moe->gate = {"top_k", {{"k", 2}}}; }).find("moe.gate"), std::string::npos);
  EXPECT_NE(reason("grok-1", [](ModelSpec& s) { s.sandwich_norm = false; }).find("sandwich_norm"), std::string::npos);
}

// ---- LLaMA-MoE and its dense parent ----

ConvertOptions to_llama() {
  ConvertOptions options;
  options.family = "llama";
  return options;
}

ModelSpec parent_spec() {
  return {.vocab_size = 40,
          .d_model = 16,
          .num_layers = 2,
          .num_heads = 4,
          .num_kv_heads = 2,
          .d_ff = 12,
          .max_positions = 64,
          .norm_eps = 1e-5,
          .init_std = 0.3,
          .moe = {}};
}

TEST(DenseParent, SlicesThatWereNotTrainedGiveTheParentBack) {
  const auto dense = random_checkpoint(parent_spec());
  const RandomStream random(5);
  const std::vector<NeuronSets> in_order(2, {{0, 1, 2}, {3, 4, 5}, {6, 7, 8}, {9, 10, 11}}),
      mixed = {random_sets(12, 4, random.at("a")), random_sets(12, 4, random.at("b"))};
  ASSERT_NE(mixed[0], in_order[0]);
  for (const auto* sets : {&in_order, &mixed}) {
    const TempDir dir;
    Checkpoint sliced;
    sliced.model = slice_networks(*dense.model, {.num_experts = 4, .top_k = 2}, *sets);
    save_checkpoint(sliced, dir / "sliced");  // what is written by itself
    EXPECT_EQ(load_checkpoint(dir / "sliced").family, "llama_moe");
    const auto plan = plan_conversion(dir / "sliced", dir / "dense", to_llama());
    EXPECT_NE(
        std::find_if(plan.notes.begin(), plan.notes.end(), [](const std::string& note) { return note.find("computes something else") != std::string::npos; }),
        plan.notes.end());
    EXPECT_EQ(plan.tensors.size(), 3u + 2 * 9);
    plan.write({});
    const auto back = load_checkpoint(dir / "dense");
    EXPECT_EQ(back.family, "llama");
    EXPECT_LT((logits_of(*back.model) - logits_of(*dense.model)).abs().max().item<double>(), 1e-4);
    EXPECT_GT((logits_of(*sliced.model) - logits_of(*dense.model)).abs().max().item<double>(), 1e-2) << "the model of experts is another one";
    if (sets != &in_order) continue;
    const auto parameters = back.model->named_parameters();
    for (const auto& item : dense.model->named_parameters()) {
      EXPECT_TRUE(torch::equal(item.value(), parameters[item.key()])) << item.key();
    }
  }
}

TEST(DenseParent, OnlySlicesGoBack) {
  const TempDir dir;
  save_checkpoint(random_checkpoint(read("skywork_moe", skywork_config())), dir / "a", {.family = "skywork_moe"});
  testing::expect_error(ErrorKind::unsupported, {"cannot convert to 'llama'", "moe"}, [&] { (void)plan_conversion(dir / "a", dir / "b", to_llama()); });
  ModelSpec s = read("llama_moe", llama_moe_config());
  s.moe->num_shared_experts = 1;
  testing::expect_error(ErrorKind::unsupported, {"join: layer 0"}, [&] { (void)joined_spec(s); });
}

}  // namespace
}  // namespace switchyard::custom_code_families_test
