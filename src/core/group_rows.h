// Rows of groups (sequences, mostly) side by side, so that products per group are one batched product.
#pragma once

#include <torch/types.h>

namespace switchyard {

// Places of T rows in an array [G, m] with m = the largest group, in row order. No array of size T x G is made.
class GroupRows {
 public:
  // group_of [T] int64 in 0 .. groups - 1, or outside of it: the row is in no group.
  GroupRows(const torch::Tensor& group_of, int64_t groups);

  [[nodiscard]] int64_t groups() const { return groups_; }
  // rows [T, n] -> [G, m, n]; places without a row hold `fill`.
  [[nodiscard]] torch::Tensor pack(const torch::Tensor& rows, double fill) const;
  // packed [G, m, n] -> [T, n]; rows of no group are 0.
  [[nodiscard]] torch::Tensor unpack(const torch::Tensor& packed) const;

 private:
  int64_t groups_, longest_ = 0;
  bool in_order_ = false;        // groups are equally long and follow each other: a view is enough
  torch::Tensor row_of_, place_of_;  // [G * m]: T = none;  [T]: G * m = none
};

}  // namespace switchyard
