#include "expect_error.h"
#include "support/moe_oracle.h"
#include "switchyard/loss.h"

namespace switchyard::device_balance_test {  // its own: tests of a folder compile as one unit
namespace {

RoutingStats stats_of(const torch::Tensor& logits, const torch::Tensor& ids) {
  GateInput in;
  in.hidden = torch::zeros({logits.size(0), 1});
  const Routing routing{.choice = TokenChoice{ids, torch::ones(ids.sizes())}, .scores = {logits, at::softmax(logits, 1)}};
  return routing_stats(routing, {}, in, /*layer=*/3, logits.size(1));
}

torch::Tensor top(const torch::Tensor& logits, int64_t k) { return std::get<1>(at::sort(logits, true, 1, true)).slice(1, 0, k).contiguous(); }

torch::Tensor device_balance(int64_t devices, const RoutingStats& s) {
  return loss_registry().make(BlockSpec("device_balance", {{"devices", devices}}))->value(s);
}

double load_balance(const RoutingStats& s) { return loss_registry().make(BlockSpec("load_balance"))->value(s).item<double>(); }

TEST(DeviceBalance, ReproducesTheWorkedExample) {
  const auto z = testing::fixture_logits();
  EXPECT_NEAR(device_balance(2, stats_of(z, top(z, 2))).item<double>(), 1.135045, 1e-5);
}

TEST(DeviceBalance, OneExpertPerDeviceIsTheLoadBalancingLossAndOneDeviceIsOne) {
  const auto z = testing::fixture_logits();
  for (int64_t k : {1, 2, 4}) {
    const auto s = stats_of(z, top(z, k));
    EXPECT_NEAR(device_balance(4, s).item<double>(), load_balance(s), 1e-6) << k;
    EXPECT_NEAR(device_balance(1, s).item<double>(), 1, 1e-6) << k;
  }
}

TEST(DeviceBalance, BalanceGivesOneForEveryK) {
  for (int64_t k : {1, 2, 8}) {
    auto ids = torch::empty({8, k}, torch::kInt64);
    for (int64_t t = 0; t < 8; ++t)
      for (int64_t j = 0; j < k; ++j) ids[t][j] = (t + j) % 8;
    const auto s = stats_of(torch::zeros({8, 8}), ids);
    for (int64_t devices : {1, 2, 4, 8}) EXPECT_NEAR(device_balance(devices, s).item<double>(), 1, 1e-6) << k << " " << devices;
  }
}

// Experts 0 and 2 take everything: their devices share the work evenly, so that only the load-balancing loss complains.
TEST(DeviceBalance, DoesNotSeeImbalanceWithinADevice) {
  auto ids = torch::empty({6, 1}, torch::kInt64);
  for (int64_t t = 0; t < 6; ++t) ids[t][0] = 2 * (t % 2);
  const auto s = stats_of(ids.to(torch::kFloat32).eq(torch::arange(4)).to(torch::kFloat32) * 50, ids);
  EXPECT_NEAR(device_balance(2, s).item<double>(), 1, 1e-5);
  EXPECT_NEAR(load_balance(s), 2, 1e-5);
}

TEST(DeviceBalance, GradientFlowsThroughTheProbabilitiesOnly) {
  auto z = testing::fixture_logits().to(torch::kFloat64).requires_grad_();
  const auto ids = top(z.detach(), 2);
  EXPECT_LT(testing::finite_difference_gap([&] { return device_balance(2, stats_of(z, ids)); }, z, 24), 1e-6);
}

TEST(DeviceBalance, RefusesGroupsThatDoNotDivide) {
  const auto z = testing::fixture_logits();
  testing::expect_error(ErrorKind::config, {"devices = 3 does not divide num_experts = 4 of layer 3"},
                        [&] { (void)device_balance(3, stats_of(z, top(z, 1))); });
  testing::expect_error(ErrorKind::config, {"devices = 0, expected at least 1"}, [&] { (void)device_balance(0, stats_of(z, top(z, 1))); });
}

}  // namespace
}  // namespace switchyard::device_balance_test
