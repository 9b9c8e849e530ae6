#include "models/hf_places.h"

#include "models/hf_config.h"
#include "switchyard/error.h"

namespace switchyard {

void add_outer_places(Places& out, const ModelSpec& s) {
  const std::vector<Dimension> vocabulary{{"vocab_size", s.vocab_size}, {"hidden_size", s.d_model}};
  out.push_back({"model.embed_tokens.weight", "embed", vocabulary});
  out.push_back({"model.norm.weight", "norm", {{"hidden_size", s.d_model}}});
  if (!s.tie_embeddings) out.push_back({"lm_head.weight", "head", vocabulary});
}

void add_attention_places(Places& out, const ModelSpec& s, int64_t layer) {
  const auto file = fmt::format("model.layers.{}.", layer), model = fmt::format("layers.{}.", layer);
  const Dimension d{"hidden_size", s.d_model}, q{"num_attention_heads * head_dim", s.num_heads * s.head_dim},
      kv{"num_key_value_heads * head_dim", s.num_kv_heads * s.head_dim};
  out.push_back({file + "input_layernorm.weight", model + "attn_norm", {d}});
  out.push_back({file + "self_attn.q_proj.weight", model + "attn.q_proj", {q, d}});
  out.push_back({file + "self_attn.k_proj.weight", model + "attn.k_proj", {kv, d}});
  out.push_back({file + "self_attn.v_proj.weight", model + "attn.v_proj", {kv, d}});
  out.push_back({file + "self_attn.o_proj.weight", model + "attn.o_proj", {d, q}});
  out.push_back({file + "post_attention_layernorm.weight", model + "ffn_norm", {d}});
}

void add_gated_expert(Places& out, const GatedNames& names, const std::string& bank, int64_t index, const Dimension& width, int64_t d_model) {
  const Dimension d{"hidden_size", d_model};
  out.push_back({names.gate, bank + ".w_in", {width, d}, index, 0, width.size});
  out.push_back({names.up, bank + ".w_in", {width, d}, index, width.size, width.size});
  out.push_back({names.down, bank + ".w_out", {d, width}, index});
}

bool is_known_leftover(const std::string& stored, const ModelSpec& spec) {
  return stored.ends_with(".rotary_emb.inv_freq") || (spec.tie_embeddings && stored == "lm_head.weight");
}

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
  s.rope_theta = config.rope_theta(absent.rope_theta);
  s.init_std = config.number("initializer_range", 0.02);
  s.tie_embeddings = config.flag("tie_word_embeddings", false);
  s.ffn = "swiglu";
  config.only("hidden_act", "silu", "only gated SiLU layers (\"silu\") have this layout");
  config.only("sliding_window", ConfigNode{}, "attention over a window is not supported; null is");
  config.only("quantization_config", ConfigNode{}, "quantised weights are not supported");
  config.only("attention_bias", false, "biases in attention are not supported");
  config.only("mlp_bias", false, "biases in feed-forward layers are not supported");
  return s;
}

void write_common_keys(nlohmann::ordered_json& config, const ModelSpec& s) {
  config["attention_dropout"] = 0.0;
  config["head_dim"] = s.head_dim;
  config["hidden_act"] = "silu";
  config["hidden_size"] = s.d_model;
  config["initializer_range"] = s.init_std;
  config["max_position_embeddings"] = s.max_positions;
  config["num_attention_heads"] = s.num_heads;
  config["num_hidden_layers"] = s.num_layers;
  config["num_key_value_heads"] = s.num_kv_heads;
  config["rms_norm_eps"] = s.norm_eps;
  // Both spellings: transformers before and from 5.
  config["rope_theta"] = s.rope_theta;
  config["rope_parameters"] = {{"rope_theta", s.rope_theta}, {"rope_type", "default"}};
  config["tie_word_embeddings"] = s.tie_embeddings;
  config["use_cache"] = true;
  config["vocab_size"] = s.vocab_size;
}

}  // namespace switchyard
