// What a gate that learns by reward reads from the statistics of a call.
#pragma once

#include "switchyard/routing_stats.h"

namespace switchyard {

struct Rewards {
  torch::Tensor rows;   // [r] int64: the valid tokens that have a task loss
  torch::Tensor value;  // [r] float32, detached: minus that loss
};

// Throws Error{config} naming the loss when nobody gave the task loss of each token (RoutingStats::token_loss; NaN = not scored).
[[nodiscard]] Rewards rewards_of(const RoutingStats& stats, const char* loss);
// The gate's own estimate of those rewards (term "baseline" of select = "sample"), with gradient. Throws Error{config}.
[[nodiscard]] torch::Tensor learned_baseline(const RoutingStats& stats, const Rewards& rewards, const char* loss);

}  // namespace switchyard
