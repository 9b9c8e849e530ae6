// MoA's weights: numbers as `renormalise`, gradient with the sum as a constant.
#include "support/gate_fixture.h"

#include <ATen/ATen.h>

namespace switchyard::renormalise_detached_test {  // its own: tests of a folder compile as one unit
namespace {

// logits 1, .5, .2, -1, k = 2: weights .622459 .377541.
TEST(RenormaliseDetached, WorkedExampleAndGradientWithAConstantSum) {
  auto gate = testing::gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 2}}}, {"weigh", "renormalise_detached"}});
  const auto z = torch::tensor({1.0f, 0.5f, 0.2f, -1.0f}).view({1, 4}).requires_grad_();
  const auto choice = testing::choose(*gate, z);
  EXPECT_LT((choice.weights[0] - torch::tensor({0.622459f, 0.377541f})).abs().max().item<double>(), 1e-6);
  const auto direction = torch::tensor({{0.7f, -1.3f}});
  (choice.weights * direction).sum().backward();
  const auto p = at::softmax(z.detach().to(torch::kFloat64), -1)[0];
  const double sum = (p[0] + p[1]).item<double>();
  for (int64_t j = 0; j < 4; ++j) {
    double expected = 0;  // d(p_i / sum) / dz_j with the sum held: p_i (delta_ij - p_j) / sum
    for (int64_t i = 0; i < 2; ++i) expected += direction[0][i].item<double>() * p[i].item<double>() * ((i == j ? 1 : 0) - p[j].item<double>()) / sum;
    EXPECT_NEAR(z.grad()[0][j].item<double>(), expected, 1e-6) << j;
  }
}

TEST(RenormaliseDetached, OneChoiceHasTheWeightOneAndStillAGradient) {
  auto gate = testing::gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 1}}}, {"weigh", "renormalise_detached"}});
  const auto z = torch::tensor({{1.0f, 0.5f, 0.2f, -1.0f}}).requires_grad_();
  const auto choice = testing::choose(*gate, z);
  EXPECT_NEAR(choice.weights[0][0].item<double>(), 1, 1e-6);
  choice.weights.sum().backward();
  EXPECT_GT(z.grad().abs().max().item<double>(), 0.1);
}

}  // namespace
}  // namespace switchyard::renormalise_detached_test
