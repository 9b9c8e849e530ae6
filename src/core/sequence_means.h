// Counts and means over the tokens of each sequence, for losses that balance inside sequences.
#pragma once

#include "switchyard/routing_stats.h"

#include <ATen/ATen.h>

namespace switchyard {

// The sequences among the valid tokens of `stats`; all tokens are one sequence when no ids were given.
class SequenceMeans {
 public:
  explicit SequenceMeans(const RoutingStats& stats) {
    const auto of = stats.sequence_ids.defined() ? stats.sequence_ids : torch::zeros({stats.num_tokens}, torch::kInt64);
    const auto [names, inverse, lengths] = at::_unique2(of, /*sorted=*/true, /*return_inverse=*/true, /*return_counts=*/true);
    sequence_ = inverse;
    length_ = lengths.to(torch::kFloat32).unsqueeze(1);
  }

  // x [T, n] -> [S, n].
  [[nodiscard]] torch::Tensor mean(const torch::Tensor& x) const {
    return torch::zeros({length_.size(0), x.size(1)}, x.options()).index_add(0, sequence_, x) / length_;
  }
  // Choices of each expert over the tokens of the sequence [S, E]; -1 counts nowhere.
  [[nodiscard]] torch::Tensor choices_per_token(const torch::Tensor& expert_ids, int64_t num_experts) const {
    const int64_t cells = length_.size(0) * num_experts;
    const auto cell = at::where(expert_ids >= 0, sequence_.unsqueeze(1) * num_experts + expert_ids, torch::full({}, cells, torch::kInt64));
    return at::bincount(cell.reshape({-1}), {}, cells + 1).slice(0, 0, cells).view({-1, num_experts}).to(torch::kFloat32) / length_;
  }

 private:
  torch::Tensor sequence_, length_;  // [T] int64, [S, 1] float32
};

}  // namespace switchyard
