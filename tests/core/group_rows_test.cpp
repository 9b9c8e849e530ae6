// Rows of groups side by side, and back.
#include "core/group_rows.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <ATen/ATen.h>

namespace switchyard::group_rows_test {  // its own: tests of a folder compile as one unit
namespace {

torch::Tensor rows(int64_t count) { return torch::arange(1.0f, static_cast<float>(3 * count + 1)).view({count, 3}); }

TEST(GroupRows, PlacesRowsInOrderAndFillsTheRest) {
  const GroupRows group(torch::tensor({1, 0, 2, 1, 1, -1}, torch::kInt64), 3);
  const auto x = rows(6), packed = group.pack(x, -7);
  const auto none = torch::full({3}, -7.0f);
  EXPECT_TRUE(torch::equal(packed, at::stack({x[1], none, none, x[0], x[3], x[4], x[2], none, none}).view({3, 3, 3})));
  auto back = x.clone();
  back[5] = 0;
  EXPECT_TRUE(torch::equal(group.unpack(packed), back)) << "rows of no group are 0";
}

TEST(GroupRows, EqualGroupsInOrderAreAView) {
  const GroupRows group(torch::tensor({0, 0, 1, 1}, torch::kInt64), 2);
  const auto x = rows(4);
  EXPECT_EQ(group.pack(x, 0).data_ptr<float>(), x.data_ptr<float>());
  EXPECT_TRUE(torch::equal(group.unpack(group.pack(x, 0)), x));
}

TEST(GroupRows, NoRowsAndEmptyGroupsAreFine) {
  const GroupRows empty(torch::zeros({0}, torch::kInt64), 0);
  EXPECT_EQ(empty.unpack(empty.pack(rows(0), 0)).sizes(), torch::IntArrayRef({0, 3}));
  const GroupRows last(torch::tensor({1, 1}, torch::kInt64), 2);
  EXPECT_TRUE(torch::equal(last.pack(rows(2), 0)[0], torch::zeros({2, 3})));
  EXPECT_TRUE(torch::equal(last.unpack(last.pack(rows(2), 0)), rows(2)));
}

TEST(GroupRows, GradientsComeBackToTheRows) {
  const GroupRows group(torch::tensor({1, 0, 1, -1}, torch::kInt64), 2);
  const auto x = rows(4).requires_grad_();
  (group.unpack(group.pack(x, 5).square()) * 0.5).sum().backward();
  auto want = x.detach().clone();
  want[3] = 0;
  EXPECT_TRUE(torch::equal(x.grad(), want));
}

}  // namespace
}  // namespace switchyard::group_rows_test
