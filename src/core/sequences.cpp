#include "core/sequences.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard {

Sequences sequences_of(const GateInput& input, const char* who) {
  if (!input.sequence_ids.defined()) fail(ErrorKind::usage, "{}: needs GateInput::sequence_ids, which says which token belongs to which sequence", who);
  auto ids = input.sequence_ids.clamp_min(-1);
  if (input.valid.defined()) ids = ids.masked_fill(~input.valid, -1);
  const auto [names, number] = at::_unique(ids, /*sorted=*/true, /*return_inverse=*/true);
  Sequences out{.of = number, .count = names.size(0), .has_padding = names.size(0) > 0 && names[0].item<int64_t>() < 0};
  if (!out.has_padding) return out;
  --out.count;  // -1 comes first; it shall be last, so that padding does not renumber the sequences
  out.of = at::where(number == 0, torch::full({}, out.count, torch::kInt64), number - 1);
  return out;
}

torch::Tensor places_in(const torch::Tensor& group, int64_t groups) {
  const auto order = std::get<1>(at::sort(group, /*stable=*/true, /*dim=*/0, /*descending=*/false));
  const auto sizes = at::bincount(group, {}, groups);
  const auto first = (at::cumsum(sizes, 0) - sizes).index_select(0, group.index_select(0, order));
  return torch::empty_like(group).scatter_(0, order, torch::arange(group.size(0), torch::kInt64) - first);
}

torch::Tensor means_of(const torch::Tensor& rows, const torch::Tensor& group, int64_t groups) {
  const auto x = rows.scalar_type() == torch::kFloat64 ? rows : rows.to(torch::kFloat32);
  const auto sums = torch::zeros({groups, x.size(1)}, x.options().requires_grad(false)).index_add(0, group, x);
  return sums / at::bincount(group, {}, groups).clamp_min(1).unsqueeze(1).to(x.scalar_type());
}

}  // namespace switchyard
