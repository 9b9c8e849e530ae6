#include "switchyard/gate.h"

#include "core/ops.h"

#include <ATen/ATen.h>

namespace switchyard {

int64_t Gate::num_parameters() const {
  int64_t n = 0;
  for (const auto& p : parameters()) n += p.numel();
  for (const auto& item : named_buffers())
    if (item.key() == "balance.bias") n += item.value().numel();  // of the selection: published counts hold it
  return n;
}

const char* name_of(Causality causality) {
  switch (causality) {
    case Causality::strict: return "strict";
    case Causality::batch_dependent: return "batch-dependent";
    case Causality::non_causal: return "non-causal";
  }
  return "";
}

namespace gates {

torch::Tensor Selection::gather(const torch::Tensor& values) const {
  const auto of = by_column ? values.t() : values;  // [E, U] or [U, E]
  return of.gather(1, ids.clamp_min(0)).masked_fill(ids < 0, 0);  // not times 0: the score of nobody may be NaN
}

torch::Tensor Selection::shares(const torch::Tensor& values) const {
  if (!by_column) return ops::chosen_shares(values, ids);
  const auto chosen = gather(values);
  return chosen / sum_of_unit(chosen, values.size(0)).clamp_min(1e-20);
}

torch::Tensor Selection::sum_of_unit(const torch::Tensor& chosen, int64_t num_units) const {
  if (!by_column) return chosen.sum(1, /*keepdim=*/true).expand_as(chosen);
  const auto unit = ids.clamp_min(0).reshape({-1});
  const auto sums = torch::zeros({num_units}, chosen.options()).index_add(0, unit, chosen.reshape({-1}));
  return sums.index_select(0, unit).view(chosen.sizes());
}

}  // namespace gates
}  // namespace switchyard
