// config.json keys of the Llama line in both directions.
#include "models/hf_config.h"
#include "models/hf_places.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard {

ModelSpec read_common_keys(HfConfig& config, const HfDefaults& absent) {
  ModelSpec s;
  s.vocab_size = config.size("vocab_size");
  s.d_model = config.size("hidden_size");
  s.num_layers = config.size("num_hidden_layers");
  s.num_heads = config.size("num_attention_heads");
  s.num_kv_heads = config.size("num_key_value_heads", s.num_heads);
  if (s.num_heads % s.num_kv_heads != 0)
    fail(ErrorKind::config, "config.json: num_key_value_heads = {} does not divide num_attention_heads = {}", s.num_kv_heads, s.num_heads);
  s.head_dim = config.size("head_dim", s.d_model / s.num_heads);
  s.max_positions = config.size("max_position_embeddings", absent.max_positions);
  s.norm_eps = config.number("rms_norm_eps", absent.norm_eps);
  config.read_rope(s, absent.rope_theta, absent.partial_rotary);
  s.init_std = config.number("initializer_range", 0.02);
  s.tie_embeddings = config.flag("tie_word_embeddings", false);
  s.ffn = "swiglu";
  config.only("quantization_config", ConfigNode{}, "quantised weights are not supported");
  return s;
}

void write_common_keys(nlohmann::ordered_json& config, const ModelSpec& s) {
  config["attention_dropout"] = 0.0;
  config["head_dim"] = s.head_dim;
  config["hidden_size"] = s.d_model;
  config["initializer_range"] = s.init_std;
  config["max_position_embeddings"] = s.max_positions;
  config["num_attention_heads"] = s.num_heads;
  config["num_hidden_layers"] = s.num_layers;
  config["num_key_value_heads"] = s.num_kv_heads;
  config["rms_norm_eps"] = s.norm_eps;
  // Both spellings: transformers before and from 5.
  config["rope_theta"] = s.rope_theta;
  const RopeSpec& r = s.rope;
  nlohmann::ordered_json rope{{"rope_theta", s.rope_theta}, {"rope_type", r.scaling == "none" ? "default" : r.scaling}};
  if (r.scaling != "none") {
    if (r.scaling != "longrope") rope["factor"] = r.factor;
    if (r.original_positions > 0) rope["original_max_position_embeddings"] = r.original_positions;
    if (r.attention_factor > 0) rope["attention_factor"] = r.attention_factor;
  }
  if (r.scaling == "yarn") {
    rope["beta_fast"] = r.beta_fast, rope["beta_slow"] = r.beta_slow;
    if (r.mscale > 0) rope["mscale"] = r.mscale;
    if (r.mscale_all_dim > 0) rope["mscale_all_dim"] = r.mscale_all_dim;
    if (!r.truncate) rope["truncate"] = false;
  }
  if (r.scaling == "llama3") rope["low_freq_factor"] = r.low_freq_factor, rope["high_freq_factor"] = r.high_freq_factor;
  if (r.scaling == "longrope") {
    rope["short_factor"] = r.short_factor, rope["long_factor"] = r.long_factor;
    if (r.short_mscale > 0) rope["short_mscale"] = r.short_mscale;
    if (r.long_mscale > 0) rope["long_mscale"] = r.long_mscale;
  }
  if (r.dims > 0) {
    const double partial = static_cast<double>(r.dims) / static_cast<double>(s.head_dim);
    config["partial_rotary_factor"] = rope["partial_rotary_factor"] = partial;
  }
  config["rope_parameters"] = rope;
  if (r.scaling != "none") {
    rope.erase("rope_theta");
    rope.erase("partial_rotary_factor");
    rope["type"] = r.scaling;
    config["rope_scaling"] = rope;
  }
  config["tie_word_embeddings"] = s.tie_embeddings;
  config["use_cache"] = true;
  config["vocab_size"] = s.vocab_size;
}

BlockSpec gated_kind(HfConfig& config, const std::string& absent, const char* key) {
  const auto act = config.text(key, absent);
  if (act == "silu" || act == "swish") return "swiglu";
  if (act == "gelu") return "geglu";
  if (act == "gelu_pytorch_tanh" || act == "gelu_new") return {"geglu", {{"tanh", true}}};
  fail(ErrorKind::unsupported, "config.json: {} = '{}': gated networks of this layout are known with silu, gelu and gelu_pytorch_tanh", key, act);
}

std::string hidden_act_of(const BlockSpec& kind) { return kind.kind != "geglu" ? "silu" : option_of(kind, "tanh", false) ? "gelu_pytorch_tanh" : "gelu"; }

BlockSpec softmax_top_k(int64_t k, bool renormalise, double jitter_eps) {
  if (k > 1 || !renormalise) {
    ConfigNode::Table options{{"k", k}, {"renormalise", renormalise}};
    if (jitter_eps > 0) options.emplace_back("jitter_eps", jitter_eps);
    return {"top_k", ConfigNode(std::move(options))};
  }
  // One expert with the constant weight 1: nothing to learn for the router, but such files can be used.
  ConfigNode::Table options{{"select", {{"kind", "top_k"}, {"k", k}}}, {"allow_constant_weight", true}};
  if (jitter_eps > 0) options.emplace_back("noise", ConfigNode{{"kind", "jitter"}, {"eps", jitter_eps}});
  return {"chain", ConfigNode(std::move(options))};
}

int64_t top_k_of(const BlockSpec& gate) {
  if (const ConfigNode* select = gate.options.find("select"))
    if (const ConfigNode* k = select->find("k")) {
      int64_t out = 2;
      read_any(*k, "k", out);
      return out;
    }
  return option_of<int64_t>(gate, "k", 2);
}

bool renormalises(const BlockSpec& gate) { return option_of(gate, "renormalise", true); }

void set_pooled_loss(MoESpec& moe, double weight) {
  if (weight > 0) moe.losses.push_back({"load_balance", ConfigNode{{"weight", weight}, {"layer_reduce", "pooled"}, {"divide_by_k", false}}});
}

double pooled_loss_weight(const MoESpec& moe) { return moe.losses.empty() ? 0.0 : read_loss(moe.losses[0]).weight; }

namespace {

// Every layer by its own entry, as the rules of the specification have it.
std::vector<LayerSpec> spelled_out(const ModelSpec& s) {
  std::vector<LayerSpec> out;
  for (int64_t i = 0; i < s.num_layers; ++i) {
    if (!s.pattern.empty()) out.push_back(s.pattern[static_cast<size_t>(i) % s.pattern.size()]);
    else out.emplace_back(), out.back().kind = s.is_moe_layer(i) ? "attention+moe" : "attention+dense";
  }
  return out;
}

void give_up_rule(ModelSpec& s) {
  if (s.moe) s.moe->every = 1, s.moe->offset = s.moe->first_k_dense = 0;
}

BlockSpec with_option(BlockSpec block, const std::string& key, const ConfigNode& value) {
  if (!block.options.is_table()) block.options = ConfigNode{ConfigNode::Table{}};
  if (ConfigNode* node = block.options.find(key)) *node = value;
  else block.options.table()->emplace_back(key, value);
  return block;
}

}  // namespace

void set_windows(ModelSpec& s, const std::vector<int64_t>& window_of_layer) {
  if (std::adjacent_find(window_of_layer.begin(), window_of_layer.end(), std::not_equal_to<>()) == window_of_layer.end()) {
    if (!window_of_layer.empty() && window_of_layer[0] > 0) s.mixer = with_option(s.mixer, "window", window_of_layer[0]);
    return;
  }
  auto layers = spelled_out(s);
  for (size_t i = 0; i < layers.size(); ++i)
    if (window_of_layer.at(i) > 0) layers[i].mixer = with_option(s.mixer, "window", window_of_layer[i]);
  s.pattern = std::move(layers);
  give_up_rule(s);
}

std::vector<int64_t> windows_of(const ModelSpec& s) {
  std::vector<int64_t> out;
  for (int64_t i = 0; i < s.num_layers; ++i) {
    const auto mixer = s.layer(i).mixer;
    out.push_back(mixer ? option_of<int64_t>(*mixer, "window", 0) : 0);
  }
  return out;
}

void set_moe_layers(ModelSpec& s, const std::vector<bool>& is_moe) {
  MoESpec& m = *s.moe;
  const auto says_it = [&] {
    for (int64_t i = 0; i < s.num_layers; ++i)
      if (s.is_moe_layer(i) != is_moe[static_cast<size_t>(i)]) return false;
    return true;
  };
  const int64_t first = std::find(is_moe.begin(), is_moe.end(), true) - is_moe.begin();
  for (int64_t every = 1; every <= s.num_layers; ++every) {
    m.every = every, m.offset = first % every, m.first_k_dense = first < every ? 0 : first;
    if (says_it()) return;
  }
  give_up_rule(s);
  s.pattern.clear();
  for (const bool moe : is_moe) s.pattern.emplace_back(), s.pattern.back().kind = moe ? "attention+moe" : "attention+dense";
}

std::vector<bool> moe_layers_of(const ModelSpec& s) {
  std::vector<bool> out;
  for (int64_t i = 0; i < s.num_layers; ++i) out.push_back(s.is_moe_layer(i));
  return out;
}

}  // namespace switchyard
