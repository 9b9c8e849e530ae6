// A mixture with a known answer: clustered linear regression, one MoE layer, seconds per run. Published gates are told apart
// by what they make of it (`switchyard compare --task clusters`).
//
//   64 ids, cluster = id / 8;  mu, off ~ N(0, 1);  A ~ N(0, 1 / d)
//   x = mu[cluster] + 0.3 off[id] + 0.3 noise  ->  y = A[cluster] x,    d = 16, 512 tokens a step, ids drawn uniformly
//   loss = mean square error + auxiliary losses;  Adam, lr 1e-2, no decay, no clipping
//
// Eight experts of kind `linear` (as many as the mixture has clusters), weights N(0, (0.1 / sqrt(d))^2); the matrix of a
// linear router N(0, 0.1^2). Gate, capacity, losses, join and routed_scale are those of the recipe; sizes, experts and shared
// experts are the bench's (none, or one for a join that mixes it in). The data is the same for every gate and every seed. A
// token brings its id as token_ids and as tag its cluster (tags = 8), or the number of its group of neighbouring clusters
// (4, 2, 1); the step is eight sequences of 64 tokens for gates and losses that ask for sequences. A sequence holds all
// clusters: what decides per sequence cannot tell them apart. With one_cluster_per_sequence its tokens are of one cluster,
// drawn per sequence: another task, for such gates.
#pragma once

#include "switchyard/model_spec.h"

#include <vector>

namespace switchyard {

inline constexpr int64_t kBenchClusters = 8, kBenchExperts = 8, kBenchTokens = 512;

struct RoutingBenchOptions {
  int64_t steps = 300;
  uint64_t seed = 0;  // of gate, experts and noise
  int64_t tags = kBenchClusters;
  bool one_cluster_per_sequence = false;
};

// Means over the last 30 steps; load and entropy are NaN where the gate has none (soft slots, mixed parameters; no scores).
struct RoutingBenchResult {
  double task_loss = 0;           // mean square error
  double load_cv = 0;             // RoutingStats::load_cv
  double load_cv_floor = 0;       // what chance would give
  double mutual_information = 0;  // I(cluster; expert) in nats, of the choices of all these steps; ln 8 = 2.079 at most
  double dropped = 0, entropy = 0;
  double experts_per_token = 0;   // choices per token that reached an expert
  std::vector<double> load;       // [experts] shares of all these choices
};

// Throws Error{config} for a gate that does not fit eight experts, Error{numeric} when the loss leaves the numbers.
[[nodiscard]] RoutingBenchResult run_routing_bench(const MoESpec& recipe, const RoutingBenchOptions& options = {});

}  // namespace switchyard
