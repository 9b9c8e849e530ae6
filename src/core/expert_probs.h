// Probabilities for losses that compare them with the loads of experts.
#pragma once

#include "switchyard/error.h"
#include "switchyard/routing_stats.h"

namespace switchyard {

// [num_tokens, E]. Throws Error{config} in the name of `loss` when there are none, or more than experts (null experts).
[[nodiscard]] inline const torch::Tensor& probs_of_experts(const RoutingStats& s, const char* loss) {
  const auto& p = s.scores.probs;
  if (!p.defined()) fail(ErrorKind::config, "loss {}: the gate of layer {} has no probabilities", loss, s.layer);
  if (p.size(-1) != s.num_experts)
    fail(ErrorKind::config, "loss {}: the gate of layer {} has probabilities of {} choices for {} experts (null_experts); use its own term 'null_balance'", loss,
         s.layer, p.size(-1), s.num_experts);
  return p;
}

}  // namespace switchyard
