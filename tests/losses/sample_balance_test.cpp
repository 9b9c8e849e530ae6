// Losses of mixtures of adapters: LoRAMoE's localised balance and MoLE's log balance.
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard::sample_balance_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;
using testing::finite_difference_gap;
using testing::normal;

// One token per sample whose weights are the row of Q.
RoutingStats samples(const torch::Tensor& q, std::vector<int64_t> tags) {
  RoutingStats s{.num_experts = q.size(1), .num_tokens = q.size(0)};
  s.scores.probs = q;
  s.sequence_ids = torch::arange(q.size(0), torch::kInt64);
  s.tags = torch::tensor(tags, torch::kInt64);
  return s;
}

double value(const RoutingStats& s, ConfigNode::Table options) { return loss_registry().make({"localized_balance", options})->value(s).item<double>(); }

const ConfigNode kOne = ConfigNode::Array{1};

TEST(LocalizedBalance, ReproducesTheWorkedExampleInBothForms) {
  const auto s = samples(torch::tensor({{3., 2., 1., 2.}, {1., 2., 3., 2.}}), {1, 0});
  EXPECT_NEAR(value(s, {{"delta", 0.1}, {"tags", kOne}}), 0.201921, 1e-6);
  EXPECT_NEAR(value(s, {{"delta", 0.1}, {"tags", kOne}, {"form", "mean"}}), 0.413937, 1e-6);
}

TEST(LocalizedBalance, SumsTheTokensOfEachSampleAndPaysNoHeedToTheirOrder) {
  const auto whole = samples(torch::tensor({{3., 2., 1., 2.}, {1., 2., 3., 2.}}), {1, 0});
  auto parts = samples(torch::tensor({{1., 0., 0., 1.}, {1., 2., 3., 2.}, {2., 2., 1., 1.}}), {1, 0, 1});
  parts.sequence_ids = torch::tensor({8, 3, 8}, torch::kInt64);
  EXPECT_NEAR(value(parts, {{"tags", kOne}}), value(whole, {{"tags", kOne}}), 1e-6);
  // A mean over tokens halves the longer sample.
  auto halved = whole;
  halved.scores.probs = torch::tensor({{1.5, 1., .5, 1.}, {1., 2., 3., 2.}});
  EXPECT_NEAR(value(parts, {{"tags", kOne}, {"per_token", true}}), value(halved, {{"tags", kOne}}), 1e-6);
}

TEST(LocalizedBalance, WithoutDeltaIsTheVariationOverSamplesAndExperts) {
  const auto q = normal({5, 6}, 1).abs();
  const double got = value(samples(q, {0, 1, 1, 0, 1}), {{"delta", 0.0}, {"tags", kOne}});
  EXPECT_NEAR(got, (q.var(true) / q.mean().square()).item<double>(), 1e-5);
  EXPECT_NEAR(value(samples(torch::full({5, 6}, 2.0), {0, 1, 1, 0, 1}), {{"delta", 0.0}}), 0, 1e-9);
}

// Zero exactly where Q is inverse to I. Oracle: descent from noise finds that ratio.
TEST(LocalizedBalance, IsLeastWhereLoadIsInverseToTheImportanceOfTheHalf) {
  const double delta = 0.3;
  auto q = torch::tensor({{0.7, 0.7, 1.3, 1.3}, {1.3, 1.3, 0.7, 0.7}});
  EXPECT_NEAR(value(samples(q, {1, 0}), {{"delta", delta}, {"tags", kOne}}), 0, 1e-6);
  EXPECT_NEAR(value(samples(q, {0, 1}), {{"delta", -delta}, {"tags", kOne}}), 0, 1e-6);  // the halves turned round
  EXPECT_GT(value(samples(q, {0, 1}), {{"delta", delta}, {"tags", kOne}}), 0.1);

  const auto loss = loss_registry().make({"localized_balance", {{"delta", delta}, {"tags", kOne}}});
  auto free = normal({2, 4}, 5).requires_grad_();
  for (int i = 0; i < 3000; ++i) {
    free.mutable_grad() = torch::Tensor();
    loss->value(samples(free.exp(), {1, 0})).backward();
    torch::NoGradGuard no_grad;
    free -= free.grad();
  }
  const auto found = free.exp().detach();
  EXPECT_NEAR((found[0][0] / found[0][2]).item<double>(), (1 - delta) / (1 + delta), 1e-3);
  EXPECT_NEAR((found[1][3] / found[1][1]).item<double>(), (1 - delta) / (1 + delta), 1e-3);
}

TEST(LocalizedBalance, OneSampleOrNoneGivesZeroWithAGraph) {
  for (const int64_t n : {0, 1}) {
    auto q = torch::ones({n, 4}).requires_grad_();
    const auto l = loss_registry().make({"localized_balance"})->value(samples(q, std::vector<int64_t>(static_cast<size_t>(n), 0)));
    EXPECT_EQ(l.item<double>(), 0);
    l.backward();
  }
}

TEST(LocalizedBalance, CountsTheWeightsOfChosenExpertsWhenAsked) {
  auto s = samples(torch::zeros({2, 4}), {1, 0});
  s.weights = torch::tensor({{3., 2.}, {1., 5.}});
  s.expert_ids = torch::tensor({{0, 3}, {2, -1}}, torch::kInt64);
  const auto want = samples(torch::tensor({{3., 0., 0., 2.}, {0., 0., 1., 0.}}), {1, 0});
  EXPECT_NEAR(value(s, {{"of", "weights"}, {"tags", kOne}}), value(want, {{"tags", kOne}}), 1e-6);
}

TEST(LocalizedBalance, GradientEqualsFiniteDifferences) {
  auto q = normal({4, 4}, 2).to(torch::kFloat64).abs().requires_grad_();
  const auto loss = loss_registry().make({"localized_balance", {{"tags", kOne}}});
  EXPECT_LT(finite_difference_gap([&] { return loss->value(samples(q, {1, 0, 0, 1})); }, q), 1e-6);
}

TEST(LocalizedBalance, SaysWhatIsMissingOrWrong) {
  auto s = samples(torch::ones({2, 4}), {0, 1});
  s.tags = torch::Tensor();
  expect_error(ErrorKind::usage, {"localized_balance", "tag"}, [&] { (void)value(s, {}); });
  const auto good = samples(torch::ones({2, 4}), {0, 1});
  expect_error(ErrorKind::config, {"delta = 1"}, [&] { (void)value(good, {{"delta", 1.0}}); });
  expect_error(ErrorKind::config, {"of = 'rows'"}, [&] { (void)value(good, {{"of", "rows"}}); });
  expect_error(ErrorKind::config, {"form = 'cv'"}, [&] { (void)value(good, {{"form", "cv"}}); });
  expect_error(ErrorKind::config, {"of = 'probs'"}, [&] { (void)value(good, {{"of", "weights"}}); });
}

torch::Tensor log_balance(const torch::Tensor& probs) {
  RoutingStats s{.num_experts = probs.size(1), .num_tokens = probs.size(0)};
  s.scores.probs = probs;
  return loss_registry().make({"log_balance"})->value(s);
}

TEST(LogBalance, IsMinusTheLogOfTheProductOfTheMeans) {
  EXPECT_NEAR(log_balance(torch::tensor({{.7f, .3f}})).item<double>(), 1.560648, 1e-5);
  EXPECT_NEAR(log_balance(torch::tensor({{1.f, 0.f}, {.4f, .6f}})).item<double>(), 1.560648, 1e-5);
  EXPECT_NEAR(log_balance(torch::full({3, 5}, 0.2)).item<double>(), 5 * std::log(5.0), 1e-5);
  for (uint64_t seed = 0; seed < 5; ++seed) EXPECT_GE(log_balance(at::softmax(normal({1, 5}, seed), 1)).item<double>(), 5 * std::log(5.0));
}

TEST(LogBalance, PooledTakesTheMeanOverLayers) {
  const AuxLosses losses({read_loss({"log_balance", {{"weight", 0.5}, {"layer_reduce", "pooled"}}})});
  std::vector<RoutingStats> layers;
  for (const double p : {1.0, 0.4}) {
    RoutingStats s{.num_experts = 2, .num_tokens = 1};
    s.counts = s.first_counts = s.kept_counts = torch::zeros({2});
    s.scores.probs = torch::tensor({{p, 1 - p}}, torch::kFloat32);
    layers.push_back(s);
  }
  const auto got = losses(layers);
  EXPECT_NEAR(got.values.at(0).raw, 1.560648, 1e-5);
  EXPECT_NEAR(got.total.item<double>(), 0.780324, 1e-5);
}

TEST(LogBalance, GradientEqualsFiniteDifferencesAndNobodyIsNoError) {
  auto z = normal({3, 4}, 2).to(torch::kFloat64).requires_grad_();
  EXPECT_LT(finite_difference_gap([&] { return log_balance(at::softmax(z, 1)); }, z), 1e-6);
  EXPECT_EQ(log_balance(torch::zeros({0, 4})).item<double>(), 0);
}

}  // namespace
}  // namespace switchyard::sample_balance_test
