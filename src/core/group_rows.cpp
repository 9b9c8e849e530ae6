#include "core/group_rows.h"

#include "core/beside.h"
#include "core/sequences.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

// One more row for places that have none.
torch::Tensor with_row(const torch::Tensor& rows, double value) {
  return at::cat({rows, torch::full({1, rows.size(1)}, value, rows.options().requires_grad(false))});
}

}  // namespace

GroupRows::GroupRows(const torch::Tensor& group_of, int64_t groups) : groups_(groups) {
  const int64_t tokens = group_of.size(0);
  const auto group = at::where((group_of >= 0) & (group_of < groups), group_of, torch::full({}, groups, torch::kInt64));
  const auto sizes = at::bincount(group, {}, groups + 1).slice(0, 0, groups);
  longest_ = groups > 0 ? sizes.max().item<int64_t>() : 0;
  place_of_ = at::where(group < groups, group * longest_ + places_in(group, groups + 1), torch::full({}, groups * longest_, torch::kInt64));
  const auto row = torch::arange(tokens, torch::kInt64);
  in_order_ = groups * longest_ == tokens && at::equal(place_of_, row);
  row_of_ = torch::full({groups * longest_ + 1}, tokens, torch::kInt64).scatter_(0, place_of_, row).slice(0, 0, groups * longest_);
}

torch::Tensor GroupRows::pack(const torch::Tensor& rows, double fill) const {
  const auto in_place = in_order_ ? rows : with_row(rows, fill).index_select(0, beside(rows, row_of_));
  return in_place.reshape({groups_, longest_, rows.size(1)});
}

torch::Tensor GroupRows::unpack(const torch::Tensor& packed) const {
  const auto flat = packed.reshape({groups_ * longest_, packed.size(2)});
  return in_order_ ? flat : with_row(flat, 0).index_select(0, beside(flat, place_of_));
}

}  // namespace switchyard
