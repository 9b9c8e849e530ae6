// What happened in one MoE layer in one call: input of the losses, of gate updates and of the metrics. Returned, never
// collected in globals.
#pragma once

#include "switchyard/routing.h"

#include <span>
#include <vector>

namespace switchyard {

struct RoutingStats {
  int64_t layer = 0, num_experts = 0, top_k = 0;
  int64_t num_tokens = 0;            // valid tokens only
  torch::Tensor counts = {};         // [E] float32: (token, choice) pairs that chose e, before any drop
  torch::Tensor first_counts = {};   // [E] float32: first choices only
  torch::Tensor kept_counts = {};    // [E] float32: rows after drops
  Scores scores = {};                // of the valid tokens only, [num_tokens, E]; carries gradient
  int64_t rows_without_score = 0;    // tokens without any finite score: they chose nobody

  [[nodiscard]] double dropped_fraction() const;
  [[nodiscard]] double load_cv() const;   // population std / mean of counts
  // What load_cv would be if every pair chose uniformly at random: sqrt((E - 1) / pairs).
  [[nodiscard]] double load_cv_floor() const;
  [[nodiscard]] double entropy() const;   // mean entropy of probs in nats; 0 when there are none
};

[[nodiscard]] RoutingStats routing_stats(const Routing& routing, const torch::Tensor& kept, const GateInput& input, int64_t layer,
                                         int64_t num_experts);

// The statistics of several layers as if their tokens had passed one layer (layer_reduce = "pooled").
[[nodiscard]] RoutingStats pooled(std::span<const RoutingStats> layers);

}  // namespace switchyard
