#include "core/routing_groups.h"

#include <ATen/ATen.h>

namespace switchyard {

std::vector<RoutingGroup> routing_groups(const GateInput& input, int64_t rows, int64_t size, bool per_sequence) {
  std::vector<RoutingGroup> out;
  const auto valid = input.valid.defined() ? input.valid.contiguous() : torch::Tensor();
  const bool* counts = valid.defined() ? valid.data_ptr<bool>() : nullptr;
  const auto sequences = per_sequence && input.sequence_ids.defined() ? input.sequence_ids.contiguous() : torch::Tensor();
  const int64_t* sequence = sequences.defined() ? sequences.data_ptr<int64_t>() : nullptr;
  int64_t current = -1;
  for (int64_t row = 0; row < rows; ++row) {
    const bool is_token = !counts || counts[row];
    const bool next_sequence = is_token && sequence && sequence[row] != current;
    if (out.empty() || (is_token && size > 0 && out.back().tokens == size) || (next_sequence && out.back().tokens > 0)) out.push_back({row, row, 0});
    if (next_sequence) current = sequence[row];
    out.back().last = row + 1;
    out.back().tokens += is_token ? 1 : 0;
  }
  return out;
}

}  // namespace switchyard
