// Padding is routed nowhere.
#pragma once

#include "switchyard/routing.h"

#include <ATen/ATen.h>

namespace switchyard {

// valid [T] bool; undefined = all tokens are.
inline void drop_padding(TokenChoice& choice, const torch::Tensor& valid) {
  if (!valid.defined()) return;
  const auto padding = ~valid.unsqueeze(1);
  choice.expert_ids = choice.expert_ids.masked_fill(padding, -1);
  choice.weights = choice.weights.masked_fill(padding, 0);
}

}  // namespace switchyard
