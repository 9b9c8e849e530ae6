// A linear map of its own for every tag: what scores and noise of gates per task have in common.
#pragma once

#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/routing.h"

#include <ATen/ATen.h>

namespace switchyard {

// z_t = W[tag_t] x_t: units [T, d] (tokens), weight [tags, n, d] -> [T, n]. Padding takes the map of tag 0. Throws
// Error{usage} in the name of `who` for a call without tags, and for a tag that has no map.
[[nodiscard]] inline torch::Tensor linear_of_tag(const torch::Tensor& units, const torch::Tensor& weight, const GateInput& input, const char* who) {
  if (!input.tags.defined()) fail(ErrorKind::usage, "{}: needs GateInput::tags, one tag for every token", who);
  if (input.tags.size(0) != units.size(0)) fail(ErrorKind::config, "{}: a gate per tag needs pool = 'token'", who);
  const auto tag = input.valid.defined() ? input.tags.masked_fill(~input.valid, 0) : input.tags;
  const auto wrong = (tag < 0) | (tag >= weight.size(0));
  if (wrong.any().item<bool>())
    fail(ErrorKind::usage, "{}: tag {} is outside 0 .. {}", who, tag.index({wrong})[0].item<int64_t>(), weight.size(0) - 1);
  const auto all = ops::linear(units, weight.flatten(0, 1), /*exact=*/true).view({units.size(0), weight.size(0), weight.size(1)});
  return all.gather(1, tag.view({-1, 1, 1}).expand({-1, 1, weight.size(1)})).squeeze(1);
}

}  // namespace switchyard
