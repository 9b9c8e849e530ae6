#include "eval/expert_shares.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(ExpertShares, OfTokenChoice) {
  const Routing routing{TokenChoice{torch::tensor({{1, 0}, {2, -1}}, torch::kInt64), torch::tensor({{0.75, 0.25}, {1.0, 0.0}}, torch::kFloat32)}, {}};
  EXPECT_TRUE(torch::equal(expert_weights(routing, 2, 3), torch::tensor({{0.25, 0.75, 0.0}, {0.0, 0.0, 1.0}}, torch::kFloat32)));
  EXPECT_TRUE(torch::equal(expert_choices(routing, 2, 3), torch::tensor({{1.0, 1.0, 0.0}, {0.0, 0.0, 1.0}}, torch::kFloat32)));
}

TEST(ExpertShares, OfExpertChoice) {
  const Routing routing{ExpertChoice{torch::tensor({{0, 1}, {1, -1}}, torch::kInt64), torch::tensor({{0.5, 0.25}, {0.125, 0.0}}, torch::kFloat32)}, {}};
  EXPECT_TRUE(torch::equal(expert_weights(routing, 3, 2), torch::tensor({{0.5, 0.0}, {0.25, 0.125}, {0.0, 0.0}}, torch::kFloat32)));
  EXPECT_TRUE(torch::equal(expert_choices(routing, 3, 2), torch::tensor({{1.0, 0.0}, {1.0, 1.0}, {0.0, 0.0}}, torch::kFloat32)));
}

TEST(ExpertShares, OfSlotsAndMixes) {
  const auto combine = torch::tensor({{0.1, 0.2, 0.3, 0.4}}, torch::kFloat32);  // two slots per expert
  const Routing slots{SoftSlots{torch::ones({1, 4}), combine}, {}};
  EXPECT_TRUE(torch::allclose(expert_weights(slots, 1, 2), torch::tensor({{0.3, 0.7}}, torch::kFloat32)));
  const Routing mix{ExpertMix{torch::tensor({{0.9, 0.1}, {0.5, 0.5}}, torch::kFloat32), torch::tensor({1, 0, -1, 1}, torch::kInt64)}, {}};
  EXPECT_TRUE(torch::allclose(expert_weights(mix, 4, 2), torch::tensor({{0.5, 0.5}, {0.9, 0.1}, {0.0, 0.0}, {0.5, 0.5}}, torch::kFloat32)));
}

}  // namespace
}  // namespace switchyard
