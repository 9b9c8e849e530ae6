// Which tokens compete for places.
#include "core/routing_groups.h"

#include "core/registries.h"
#include "switchyard/dispatch_plan.h"

#include <gtest/gtest.h>

namespace switchyard::routing_groups_test {  // its own: tests of a folder compile as one unit
namespace {

std::vector<std::vector<int64_t>> groups_of(const std::string& rows, int64_t size) {  // 'x' a token, '.' padding
  GateInput in;
  std::vector<uint8_t> valid;
  for (const char c : rows) valid.push_back(c == 'x');
  in.valid = torch::tensor(valid, torch::kUInt8).to(torch::kBool);
  std::vector<std::vector<int64_t>> out;
  for (const auto& g : routing_groups(in, static_cast<int64_t>(rows.size()), size, /*per_sequence=*/false)) out.push_back({g.first, g.last, g.tokens});
  return out;
}

using Expected = std::vector<std::vector<int64_t>>;

TEST(RoutingGroups, CountTokensAndTakePaddingAlong) {
  EXPECT_EQ(groups_of("xxxxxxx", 3), (Expected{{0, 3, 3}, {3, 6, 3}, {6, 7, 1}}));
  EXPECT_EQ(groups_of("xx..xx.xx..", 3), (Expected{{0, 5, 3}, {5, 11, 3}}));
  EXPECT_EQ(groups_of("..xx", 0), (Expected{{0, 4, 2}}));
  EXPECT_EQ(groups_of("...", 2), (Expected{{0, 3, 0}}));
  EXPECT_EQ(groups_of("", 2), Expected{});
}

// 6 tokens for one of 2 experts at factor 1: 3 places, whether 6 rows of padding stand around them or none.
TEST(RoutingGroups, PaddingBringsNoPlaces) {
  GateInput in;
  in.hidden = torch::zeros({12, 1});
  in.valid = torch::arange(12) % 2 == 0;
  const auto ids = at::where(in.valid, torch::zeros({12}, torch::kInt64), torch::full({12}, -1, torch::kInt64)).unsqueeze(1);
  const auto priority = priority_registry().make("arrival");
  CapacityOptions capacity;
  capacity.eval_factor = 1;
  const auto planned = plan_dispatch({.choice = TokenChoice{ids, torch::ones({12, 1})}}, in, 2, capacity, priority.get());
  EXPECT_EQ(planned.plan.num_rows(), 3);
  EXPECT_EQ(planned.plan.row_token[2].item<int64_t>(), 4);
}

}  // namespace
}  // namespace switchyard::routing_groups_test
