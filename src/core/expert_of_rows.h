// Which expert a row belongs to, for what experts have besides matrices: biases, scales, weights of a group.
#pragma once

#include "core/beside.h"

#include <ATen/ATen.h>

namespace switchyard {

// offsets [E + 1] -> [N] int64 on the CPU.
[[nodiscard]] inline torch::Tensor expert_of_rows(const torch::Tensor& offsets) {
  return torch::arange(offsets.size(0) - 1, torch::kInt64).repeat_interleave(offsets.slice(0, 1) - offsets.slice(0, 0, -1));
}

// table [E, ...] -> [N, ...]: for each row what its expert has.
[[nodiscard]] inline torch::Tensor of_experts(const torch::Tensor& table, const torch::Tensor& offsets) {
  return table.index_select(0, beside(table, expert_of_rows(offsets)));
}

}  // namespace switchyard
