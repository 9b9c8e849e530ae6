// Rows that most decoders share.
#pragma once

#include "io/gguf/gguf_family.h"

namespace switchyard::io {

// Embedding, then `layer`, then final norm and head.
inline std::vector<NameRow> decoder_rows(std::vector<NameRow> layer) {
  std::vector<NameRow> rows{{"token_embd.weight", "model.embed_tokens.weight"}};
  rows.insert(rows.end(), layer.begin(), layer.end());
  rows.push_back({"output_norm.weight", "model.norm.weight"});
  rows.push_back({"output.weight", "lm_head.weight", Arrange::plain, true});
  return rows;
}

// Norms and attention with the q and k rows in the order `q`, `k`, then `more`.
inline std::vector<NameRow> layer_rows(Arrange q, Arrange k, std::vector<NameRow> more) {
  std::vector<NameRow> rows{{"blk.{i}.attn_norm.weight", "model.layers.{i}.input_layernorm.weight"},
                            {"blk.{i}.attn_q.weight", "model.layers.{i}.self_attn.q_proj.weight", q},
                            {"blk.{i}.attn_k.weight", "model.layers.{i}.self_attn.k_proj.weight", k},
                            {"blk.{i}.attn_v.weight", "model.layers.{i}.self_attn.v_proj.weight"},
                            {"blk.{i}.attn_output.weight", "model.layers.{i}.self_attn.o_proj.weight"},
                            {"blk.{i}.ffn_norm.weight", "model.layers.{i}.post_attention_layernorm.weight"}};
  rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

inline std::vector<KeyRow> decoder_keys(std::vector<KeyRow> more) {
  std::vector<KeyRow> keys{{"max_position_embeddings", "context_length"},
                           {"hidden_size", "embedding_length"},
                           {"num_hidden_layers", "block_count"},
                           {"num_attention_heads", "attention.head_count"},
                           {"num_key_value_heads", "attention.head_count_kv", KeyType::size, true},
                           {"rms_norm_eps", "attention.layer_norm_rms_epsilon", KeyType::number},
                           {"rope_theta", "rope.freq_base", KeyType::number, true}};
  keys.insert(keys.end(), more.begin(), more.end());
  return keys;
}

// What files hold beside the keys of a table and what says nothing new.
inline std::vector<std::string_view> usual_extra_keys() {
  return {"vocab_size", "rope.dimension_count", "attention.key_length", "attention.value_length", "tensor_data_layout", "rope.scaling.type"};
}

}  // namespace switchyard::io
