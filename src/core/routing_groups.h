// Tokens that compete for the places of experts: runs of rows.
#pragma once

#include "switchyard/routing.h"

#include <vector>

namespace switchyard {

struct RoutingGroup {
  int64_t first = 0, last = 0;  // rows first .. last - 1
  int64_t tokens = 0;           // of them, without padding: what capacity is a share of
};

// `size` tokens each in row order, the last one with what is left; 0 = one group. With `per_sequence` a group ends where the number of the
// sequence changes. Padding belongs to the group it stands in
// and is not counted, so that it changes neither groups nor capacities.
[[nodiscard]] std::vector<RoutingGroup> routing_groups(const GateInput& input, int64_t rows, int64_t size, bool per_sequence);

}  // namespace switchyard
