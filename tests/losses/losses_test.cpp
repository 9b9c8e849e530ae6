#include "switchyard/loss.h"

#include "support/moe_oracle.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

using testing::fixture_logits;

RoutingStats stats_of(const torch::Tensor& logits, const torch::Tensor& ids, int64_t layer = 0) {
  GateInput in;
  in.hidden = torch::zeros({logits.size(0), 1});
  const Routing routing{.choice = TokenChoice{ids, torch::ones(ids.sizes())}, .scores = {logits, at::softmax(logits, 1)}};
  return routing_stats(routing, {}, in, layer, logits.size(1));
}

torch::Tensor top(const torch::Tensor& logits, int64_t k) { return std::get<1>(at::sort(logits, true, 1, true)).slice(1, 0, k).contiguous(); }

double value(const BlockSpec& loss, const RoutingStats& s) { return loss_registry().make(loss)->value(s).item<double>(); }

TEST(LoadBalance, ReproducesTheWorkedExamples) {
  const auto z = fixture_logits();
  EXPECT_NEAR(value("load_balance", stats_of(z, top(z, 1))), 1.301873, 1e-5);   // Switch
  EXPECT_NEAR(value("load_balance", stats_of(z, top(z, 2))), 1.218459, 1e-5);   // k = 2, divided by k
  EXPECT_NEAR(value({"load_balance", {{"divide_by_k", false}}}, stats_of(z, top(z, 2))), 2.436918, 1e-5);
  EXPECT_NEAR(value({"load_balance", {{"count", "first"}}}, stats_of(z, top(z, 2))), 1.301873, 1e-5);  // GShard
}

TEST(LoadBalance, UniformRoutingGivesOneForEveryKAndCollapseGivesE) {
  for (int64_t k : {1, 2, 4}) {
    auto ids = torch::empty({8, k}, torch::kInt64);
    for (int64_t t = 0; t < 8; ++t)
      for (int64_t j = 0; j < k; ++j) ids[t][j] = (t + j) % 8;
    EXPECT_NEAR(value("load_balance", stats_of(torch::zeros({8, 8}), ids)), 1, 1e-6);
  }
  auto sure = torch::zeros({8, 8});
  sure.select(1, 3).fill_(50);
  EXPECT_NEAR(value("load_balance", stats_of(sure, torch::full({8, 1}, 3, torch::kInt64))), 8, 1e-5);
}

TEST(LoadBalance, CanBeBelowOne) {
  const auto p = torch::tensor({.51f, .49f, .51f, .49f, .51f, .49f, .05f, .95f, .05f, .95f}).view({5, 2});
  EXPECT_NEAR(value("load_balance", stats_of(p.log(), top(p, 1))), .930400, 1e-5);
}

TEST(LoadBalance, EqualsTheTripleLoop) {
  auto z = torch::empty({37, 6});
  RandomStream(3).fill_normal(z.data_ptr<float>(), z.numel());
  const auto ids = top(z, 2);
  const auto p = at::softmax(z.to(torch::kFloat64), 1);
  double sum = 0;
  for (int64_t e = 0; e < 6; ++e) {
    double chose = 0, mean = 0;
    for (int64_t t = 0; t < 37; ++t) {
      for (int64_t j = 0; j < 2; ++j) chose += ids[t][j].item<int64_t>() == e;
      mean += p[t][e].item<double>() / 37;
    }
    sum += 6 * chose / 74 * mean;
  }
  EXPECT_NEAR(value("load_balance", stats_of(z, ids)), sum, 1e-6);
}

TEST(LoadBalance, GradientFlowsThroughTheProbabilitiesOnly) {
  auto z = fixture_logits().to(torch::kFloat64).requires_grad_();
  const auto ids = top(z.detach(), 2);
  const auto term = loss_registry().make("load_balance");
  EXPECT_LT(testing::finite_difference_gap([&] { return term->value(stats_of(z, ids)); }, z, 24), 1e-6);
}

TEST(RouterZ, ReproducesTheWorkedExampleAndItsClosedForms) {
  const auto z = fixture_logits();
  EXPECT_NEAR(value("router_z", stats_of(z, top(z, 1))), 7.119395, 1e-5);
  EXPECT_NEAR(value("router_z", stats_of(torch::zeros({5, 8}), torch::zeros({5, 1}, torch::kInt64))), std::pow(std::log(8.0), 2), 1e-5);
  EXPECT_TRUE(std::isfinite(value("router_z", stats_of(z * 1e3, top(z, 1)))));
}

TEST(RouterZ, GradientIsTwoLseTimesProbabilityOverTokens) {
  auto z = fixture_logits().requires_grad_();
  loss_registry().make("router_z")->value(stats_of(z, top(z.detach(), 1))).backward();
  const auto want = 2.0 / 6 * at::logsumexp(z.detach(), 1, true) * at::softmax(z.detach(), 1);
  EXPECT_TRUE(testing::all_close(z.grad(), want, 1e-6));
}

TEST(RouterZ, AddingToAllLogitsOfATokenMovesItsLogsumexpAndNothingElse) {
  const auto z = fixture_logits();
  const auto shift = torch::tensor({0.5f, -2.0f, 3.0f, 0.0f, 1.0f, -1.0f});
  const auto moved = z + shift.unsqueeze(1);
  const auto want = (torch::tensor({2.440190, 2.816825, 3.236815, 1.642535, 3.071375, 2.493812}) + shift).square().mean().item<double>();
  EXPECT_NEAR(value("router_z", stats_of(moved, top(moved, 1))), want, 1e-5);
  EXPECT_TRUE(testing::all_close(at::softmax(moved, 1), at::softmax(z, 1), 1e-6));
}

TEST(RouterZ, GradientMatchesFiniteDifferencesInFloat64) {
  auto z = fixture_logits().to(torch::kFloat64).requires_grad_();
  const auto ids = top(z.detach(), 2);
  const auto term = loss_registry().make("router_z");
  EXPECT_LT(testing::finite_difference_gap([&] { return term->value(stats_of(z, ids)); }, z, 24), 1e-6);
}

TEST(AuxLosses, ReduceOverLayersBySumMeanOrPooling) {
  const auto z = fixture_logits();
  const std::vector<RoutingStats> layers = {stats_of(z, top(z, 2), 0), stats_of(-z, top(-z, 2), 1)};
  const double a = value("load_balance", layers[0]), b = value("load_balance", layers[1]);
  const auto total = [&](const char* reduce) {
    LossSpec spec("load_balance", 0.5);
    spec.layer_reduce = reduce;
    return AuxLosses({spec})(layers);
  };
  EXPECT_NEAR(total("sum").total.item<double>(), 0.5 * (a + b), 1e-6);
  EXPECT_NEAR(total("sum").values[0].raw, a + b, 1e-6);
  EXPECT_NEAR(total("mean").total.item<double>(), 0.25 * (a + b), 1e-6);
  const auto both = at::cat({z, -z}, 0);
  EXPECT_NEAR(total("pooled").total.item<double>(), 0.5 * value("load_balance", stats_of(both, top(both, 2))), 1e-6);
}

TEST(AuxLosses, NamesWrongWeightsReductionsAndOptions) {
  const auto message = [](const BlockSpec& spec) -> std::string {
    try { (void)read_loss(spec); } catch (const Error& e) { return e.what(); }
    return "accepted";
  };
  EXPECT_EQ(message({"load_balance", {{"weight", 0.01}}}), "accepted");
  EXPECT_NE(message({"load_balance", {{"weight", -1}}}).find("weight = -1, expected 0 or more"), std::string::npos);
  EXPECT_NE(message({"load_balance", {{"layer_reduce", "max"}}}).find("expected sum, mean or pooled"), std::string::npos);
  EXPECT_NE(message({"load_balance", {{"devide_by_k", true}}}).find("did you mean 'divide_by_k'"), std::string::npos);
  EXPECT_NE(message({"router_zz", {}}).find("did you mean 'router_z'"), std::string::npos);
}

TEST(RoutingStats, CountsTokensWithoutAnyFiniteScore) {
  auto z = fixture_logits();
  z[2].fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(stats_of(z, top(fixture_logits(), 1)).rows_without_score, 1);
  constexpr float kInf = std::numeric_limits<float>::infinity();
  z = fixture_logits();
  z.select(1, 0).fill_(-kInf);  // an expert that nobody may choose: every token has other scores
  EXPECT_EQ(stats_of(z, top(z, 1)).rows_without_score, 0);
  z = fixture_logits();
  z[1][0] = kInf;  // finite scores beside it, but no probability is a number
  EXPECT_EQ(stats_of(z, top(fixture_logits(), 1)).rows_without_score, 1);
  EXPECT_EQ(stats_of(torch::full({4, 3}, 3e38f), torch::zeros({4, 1}, torch::kInt64)).rows_without_score, 0) << "their sum is infinite, they are not";
  z = fixture_logits();
  z[3].fill_(-kInf);  // nothing to choose from, though the sigmoids are numbers
  GateInput in;
  in.hidden = torch::zeros({z.size(0), 1});
  const Routing sigmoids{.choice = TokenChoice{top(fixture_logits(), 1), torch::ones({z.size(0), 1})}, .scores = {z, z.sigmoid()}};
  EXPECT_EQ(routing_stats(sigmoids, {}, in, 0, z.size(1)).rows_without_score, 1);
}

TEST(RoutingStats, LoadCvOfUniformChoicesIsNearItsFloor) {
  const int64_t tokens = 20000, experts = 16;
  auto ids = torch::empty({tokens, 1}, torch::kInt64);
  for (int64_t t = 0; t < tokens; ++t) ids.data_ptr<int64_t>()[t] = static_cast<int64_t>(RandomStream(4).below(static_cast<uint64_t>(t), experts));
  const auto s = stats_of(torch::zeros({tokens, experts}), ids);
  EXPECT_NEAR(s.load_cv() / s.load_cv_floor(), 1, 0.5);  // chi with 15 degrees of freedom: deviation 0.18
  EXPECT_NEAR(s.entropy(), std::log(16.0), 1e-5);
  EXPECT_EQ(s.dropped_fraction(), 0);
}

}  // namespace
}  // namespace switchyard
