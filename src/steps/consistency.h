// Consistency of two passes over one batch: each draws its own experts and dropout, and both learn to predict alike.
//
//   L = CE_1 + CE_2 + alpha * D,    D = sum over scored tokens of 1/2 sum_v (p_v - q_v) (ln p_v - ln q_v)
//
// D is the mean of KL(p | q) and KL(q | p): symmetric, 0 exactly when the predictions are equal. Its gradient flows through both
// passes. As the cross-entropies, D is divided by the scored tokens of the step. Source: THOR, arXiv:2110.04260 section 3.
#pragma once

#include <torch/types.h>

#include <cstdint>

namespace switchyard {

// Logits [T, V] of both passes, labels [T] (data::kIgnoredLabel where nothing is scored) -> D, a scalar.
[[nodiscard]] torch::Tensor disagreement(const torch::Tensor& first, const torch::Tensor& second, const torch::Tensor& labels);

// Names the random streams of a pass; the first one has those of a run with a single pass.
[[nodiscard]] uint64_t seed_of_pass(uint64_t seed, int64_t pass);

}  // namespace switchyard
