#include "core/routing_groups.h"

#include <ATen/ATen.h>

namespace switchyard {

std::vector<RoutingGroup> routing_groups(const GateInput& input, int64_t rows, int64_t size) {
  std::vector<RoutingGroup> out;
  const auto valid = input.valid.defined() ? input.valid.contiguous() : torch::Tensor();
  const bool* counts = valid.defined() ? valid.data_ptr<bool>() : nullptr;
  for (int64_t row = 0; row < rows; ++row) {
    const bool is_token = !counts || counts[row];
    if (out.empty() || (is_token && size > 0 && out.back().tokens == size)) out.push_back({row, row, 0});
    out.back().last = row + 1;
    out.back().tokens += is_token ? 1 : 0;
  }
  return out;
}

}  // namespace switchyard
