// What all blocks share in one call of the model.
#pragma once

#include "models/rotary.h"
#include "switchyard/random.h"

#include <torch/types.h>

namespace switchyard {

struct CallContext {
  torch::Tensor positions;                // [B, S] int64
  torch::Tensor q_segments, k_segments;   // [B, S] and [B, Sk] int32; both undefined when all tokens see each other
  torch::Tensor valid;                    // [T] bool; undefined when no token is padding
  torch::Tensor token_ids, sequence_ids;  // [T] int64
  torch::Tensor tags;                     // [T] int64; undefined when the batch has none
  torch::Tensor previous_ids;             // [T] int64; defined when a cache holds what came before
  RotaryTable rotary;
  RandomStream random{0};  // of this step
  int64_t step = 0, first_token = 0;
  bool training = false;

  // The stream of one use in one layer. Dropout masks are drawn per call, so its first token is part of the name.
  [[nodiscard]] RandomStream dropout_stream(const char* where, int64_t layer) const {
    return random.at(where, static_cast<uint64_t>(layer)).at("first_token", static_cast<uint64_t>(first_token));
  }
};

}  // namespace switchyard
