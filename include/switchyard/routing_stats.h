// What happened in one MoE layer in one call: input of the losses, of gate updates and of the metrics. Returned, never
// collected in globals.
#pragma once

#include "switchyard/routing.h"

#include <span>
#include <string>
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
  // Per valid token, as far as the gate and the call have them; undefined otherwise.
  torch::Tensor expert_ids = {};     // [n, k] int64, -1 = none
  torch::Tensor weights = {};        // [n, k] float32; carries gradient
  torch::Tensor sequence_ids = {}, tags = {};  // [n] int64
  torch::Tensor token_loss = {};     // [n] float32, detached: the task loss of each token, for gates that learn by reward
  std::map<std::string, torch::Tensor> terms = {};
  double loss_scale = 1;
  bool training = false;

  [[nodiscard]] double dropped_fraction() const;
  [[nodiscard]] double load_cv() const;   // population std / mean of counts
  // What load_cv would be if every pair chose uniformly at random: sqrt((E - 1) / pairs).
  [[nodiscard]] double load_cv_floor() const;
  [[nodiscard]] double entropy() const;   // mean entropy of probs in nats; 0 when there are none
};

// The same of a mixture at a site of a block (site.h).
struct MixtureStats {
  int64_t mixture = 0;  // its number in ModelSpec::mixtures
  std::string site;
  RoutingStats stats;
};

// `wanted`: the choices before a capacity rule revised them, when it did (DispatchPlan::wanted).
[[nodiscard]] RoutingStats routing_stats(const Routing& routing, const torch::Tensor& kept, const GateInput& input, int64_t layer,
                                         int64_t num_experts, const torch::Tensor& wanted = {});

// The defined tensors of `stats` through which losses send gradient; one tensor may be there under several names.
[[nodiscard]] std::vector<torch::Tensor*> differentiable(RoutingStats& stats);

// The statistics of several layers as if their tokens had passed one layer (layer_reduce = "pooled").
[[nodiscard]] RoutingStats pooled(std::span<const RoutingStats> layers);

}  // namespace switchyard
