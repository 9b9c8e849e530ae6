// Specifications that are quick to build.
#pragma once

#include "switchyard/model_spec.h"

namespace switchyard::testing {

// Two layers, the second with experts.
inline ModelSpec small_spec() {
  ModelSpec s;
  s.vocab_size = 19;
  s.d_model = 12;
  s.num_layers = 2;
  s.num_heads = 2;
  s.num_kv_heads = 1;
  s.head_dim = 4;
  s.d_ff = 10;
  s.max_positions = 16;
  s.init_std = 0.3;  // large enough for gradients that differences can see
  MoESpec& m = s.moe.emplace();
  m.num_experts = 4;
  m.d_expert = 6;
  m.every = 2;
  m.offset = 1;
  return s;
}

// What a Mixtral config.json can say.
inline ModelSpec mixtral_like_spec() {
  ModelSpec s = small_spec();
  s.moe->every = 1;
  s.moe->offset = 0;
  s.moe->losses = {{"load_balance", ConfigNode{{"weight", 0.01}, {"layer_reduce", "pooled"}, {"divide_by_k", false}}}};
  return s;
}

inline ModelSpec llama_like_spec() {
  ModelSpec s = small_spec();
  s.moe.reset();
  return s;
}

}  // namespace switchyard::testing
