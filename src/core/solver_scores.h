// Scores for solvers that look at all tokens at once, where one value that is no number would spoil the others.
#pragma once

#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard {

// Everything that is no finite number counts as the worst one of all.
[[nodiscard]] inline torch::Tensor finite_scores(const torch::Tensor& z) {
  const auto finite = z.isfinite();
  if (z.numel() == 0) return z;
  return at::where(finite, z, at::where(finite, z, torch::zeros({}, z.options())).min());
}

// The chosen ids [U, k]; -1 where the logit is not finite or the probability no number: such a pair is no choice.
[[nodiscard]] inline torch::Tensor numbers_only(const torch::Tensor& ids, const gates::Scored& s) {
  const auto at_ids = [&](const torch::Tensor& x) { return x.detach().gather(1, ids.clamp_min(0)); };
  return ids.masked_fill(~at_ids(s.logits).isfinite() | at_ids(s.probs).isnan(), -1);
}

}  // namespace switchyard
