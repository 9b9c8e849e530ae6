// Rows that most decoders share.
#pragma once

#include "io/gguf/gguf_family.h"
#include "switchyard/error.h"

namespace switchyard::io {

inline std::vector<NameRow> joined(std::vector<NameRow> rows, const std::vector<NameRow>& more) {
  rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

// Embedding, then `layer`, then final norm and head.
inline std::vector<NameRow> decoder_rows(const std::vector<NameRow>& layer) {
  return joined(joined({{"token_embd.weight", "model.embed_tokens.weight"}}, layer),
                {{"output_norm.weight", "model.norm.weight"}, {"output.weight", "lm_head.weight", Arrange::plain, true}});
}

// Norms and attention with the q and k rows in the order `q`, `k`, then `more`.
inline std::vector<NameRow> layer_rows(Arrange q, Arrange k, const std::vector<NameRow>& more) {
  return joined({{"blk.{i}.attn_norm.weight", "model.layers.{i}.input_layernorm.weight"},
                 {"blk.{i}.attn_q.weight", "model.layers.{i}.self_attn.q_proj.weight", q},
                 {"blk.{i}.attn_k.weight", "model.layers.{i}.self_attn.k_proj.weight", k},
                 {"blk.{i}.attn_v.weight", "model.layers.{i}.self_attn.v_proj.weight"},
                 {"blk.{i}.attn_output.weight", "model.layers.{i}.self_attn.o_proj.weight"},
                 {"blk.{i}.ffn_norm.weight", "model.layers.{i}.post_attention_layernorm.weight"}},
                more);
}

inline std::vector<NameRow> qkv_bias_rows(bool optional = false) {
  return {{"blk.{i}.attn_q.bias", "model.layers.{i}.self_attn.q_proj.bias", Arrange::plain, optional},
          {"blk.{i}.attn_k.bias", "model.layers.{i}.self_attn.k_proj.bias", Arrange::plain, optional},
          {"blk.{i}.attn_v.bias", "model.layers.{i}.self_attn.v_proj.bias", Arrange::plain, optional}};
}

inline std::vector<NameRow> qk_norm_rows(bool optional = false) {
  return {{"blk.{i}.attn_q_norm.weight", "model.layers.{i}.self_attn.q_norm.weight", Arrange::plain, optional},
          {"blk.{i}.attn_k_norm.weight", "model.layers.{i}.self_attn.k_norm.weight", Arrange::plain, optional}};
}

inline std::vector<NameRow> dense_rows(bool optional = false) {
  return {{"blk.{i}.ffn_gate.weight", "model.layers.{i}.mlp.gate_proj.weight", Arrange::plain, optional},
          {"blk.{i}.ffn_up.weight", "model.layers.{i}.mlp.up_proj.weight", Arrange::plain, optional},
          {"blk.{i}.ffn_down.weight", "model.layers.{i}.mlp.down_proj.weight", Arrange::plain, optional}};
}

// A router and experts with a tensor for each matrix; optional where layers may be dense.
inline std::vector<NameRow> expert_rows(bool optional = false) {
  return {{"blk.{i}.ffn_gate_inp.weight", "model.layers.{i}.mlp.gate.weight", Arrange::plain, optional},
          {"blk.{i}.ffn_gate_exps.weight", "model.layers.{i}.mlp.experts.{e}.gate_proj.weight", Arrange::stack, optional},
          {"blk.{i}.ffn_up_exps.weight", "model.layers.{i}.mlp.experts.{e}.up_proj.weight", Arrange::stack, optional},
          {"blk.{i}.ffn_down_exps.weight", "model.layers.{i}.mlp.experts.{e}.down_proj.weight", Arrange::stack, optional}};
}

inline std::vector<NameRow> mixtral_expert_rows() {
  return {{"blk.{i}.ffn_gate_inp.weight", "model.layers.{i}.block_sparse_moe.gate.weight"},
          {"blk.{i}.ffn_gate_exps.weight", "model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight", Arrange::stack},
          {"blk.{i}.ffn_up_exps.weight", "model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight", Arrange::stack},
          {"blk.{i}.ffn_down_exps.weight", "model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight", Arrange::stack}};
}

inline std::vector<KeyRow> joined(std::vector<KeyRow> rows, const std::vector<KeyRow>& more) {
  rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

inline std::vector<KeyRow> decoder_keys(const std::vector<KeyRow>& more) {
  return joined({{"max_position_embeddings", "context_length"},
                 {"hidden_size", "embedding_length"},
                 {"num_hidden_layers", "block_count"},
                 {"num_attention_heads", "attention.head_count"},
                 {"num_key_value_heads", "attention.head_count_kv", KeyType::size, true},
                 {"rms_norm_eps", "attention.layer_norm_rms_epsilon", KeyType::number},
                 {"rope_theta", "rope.freq_base", KeyType::number, true}},
                more);
}

inline KeyRow head_dim_key() { return {"head_dim", "attention.key_length", KeyType::size, true}; }
inline KeyRow vocab_size_key() { return {"vocab_size", "vocab_size", KeyType::size, true}; }
inline std::vector<std::pair<std::string_view, std::string_view>> value_length_too() {
  return {{"attention.value_length", "attention.key_length"}};
}

// What files hold beside the keys of a table and what says nothing new.
inline std::vector<std::string_view> usual_extra_keys() {
  return {"vocab_size", "rope.dimension_count", "attention.key_length", "attention.value_length", "tensor_data_layout"};
}

// A size of config.json that has no default.
inline int64_t needed(const nlohmann::ordered_json& config, const char* key) {
  if (!config.contains(key) || !config[key].is_number_integer())
    fail(ErrorKind::config, "config.json: '{}' is missing or no size; GGUF needs it", key);
  return config[key];
}

inline bool has_experts(const KeyReader& file) { return file.size("expert_count", 0) > 0; }

// The converter for llama and its kin writes the width of a head as that of its rotary positions.
inline void write_rotary_width(const nlohmann::ordered_json& config, KeyWriter& out) {
  const auto head = config.find("head_dim");
  const int64_t heads = needed(config, "num_attention_heads");
  if (head != config.end() && head->is_number_integer()) out.size("rope.dimension_count", *head);
  else if (heads > 0) out.size("rope.dimension_count", needed(config, "hidden_size") / heads);
}

}  // namespace switchyard::io
