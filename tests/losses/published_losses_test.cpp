// Losses of published gates on worked examples, triple loops, Monte-Carlo draws and finite differences.
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/loss.h"

#include <cmath>

namespace switchyard::published_losses_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::expect_error;
using testing::finite_difference_gap;
using testing::fixture_logits;
using testing::normal;

torch::Tensor value(const BlockSpec& loss, const RoutingStats& s) { return loss_registry().make(loss)->value(s); }

torch::Tensor top(const torch::Tensor& z, int64_t k) { return std::get<1>(at::sort(z.detach(), true, 1, true)).slice(1, 0, k).contiguous(); }

// Top-k of softmax with the weights of the chosen renormalised.
RoutingStats stats_of(const torch::Tensor& z, int64_t k, GateInput in = {}) {
  const auto ids = top(z, k);
  const auto p = at::softmax(z, 1);
  const auto w = p.gather(1, ids);
  in.hidden = torch::zeros({z.size(0), 1});
  return routing_stats({.choice = TokenChoice{ids, w / w.sum(1, true)}, .scores = {z, p}}, {}, in, 3, z.size(1));
}

RoutingStats noisy_stats(const torch::Tensor& clean, const torch::Tensor& noisy, const torch::Tensor& std, int64_t k) {
  auto s = stats_of(noisy, k);
  s.scores = {clean, at::softmax(noisy, 1), noisy, std};
  s.training = true;
  return s;
}

torch::Tensor in_float64(torch::Tensor x) { return x.to(torch::kFloat64); }

TEST(Importance, ReproducesTheWorkedExamples) {
  const auto s = stats_of(fixture_logits(), 2);
  EXPECT_NEAR(value("importance", s).item<double>(), .345784, 1e-5);
  EXPECT_NEAR(value({"importance", {{"unbiased", true}}}, s).item<double>(), .461045, 1e-5);
  EXPECT_NEAR(value({"importance", {{"of", "probs"}}}, s).item<double>(), .296751, 1e-5);
}

TEST(Importance, IsZeroForEqualSumsAndForOneExpert) {
  EXPECT_NEAR(value("importance", stats_of(at::eye(4) * 9, 1)).item<double>(), 0, 1e-9);
  EXPECT_EQ(value("importance", stats_of(torch::zeros({5, 1}), 1)).item<double>(), 0);
}

TEST(Importance, GradientMatchesFiniteDifferences) {
  auto z = in_float64(fixture_logits()).requires_grad_();
  for (const char* of : {"weights", "probs"})
    EXPECT_LT(finite_difference_gap([&] { return value({"importance", {{"of", of}}}, stats_of(z, 2)); }, z, 24), 1e-6) << of;
}

TEST(Load, ReproducesTheWorkedExamplesOfBothForms) {
  const auto z = fixture_logits();
  EXPECT_NEAR(value("load", noisy_stats(z, z, torch::ones_like(z), 2)).item<double>(), .210571, 1e-5);
  // Of token 0 alone: chances .977250 .841345 .158655 .022750, whose CV^2 is .688568.
  const auto first = z.slice(0, 0, 1);
  EXPECT_NEAR(value("load", noisy_stats(first, first, torch::ones_like(first), 2)).item<double>(), .688568, 1e-5);
  EXPECT_NEAR(value({"load", {{"form", "inclusive"}, {"std", .25}}}, stats_of(z, 2)).item<double>(), .313432, 1e-5);
}

// Draws the noise of one component again and again, the others held: the exclusive form is the frequency of being chosen.
TEST(Load, IsTheExpectedLoadUnderFreshNoise) {
  const auto z = in_float64(normal({3, 5}, 1)), std = in_float64(normal({3, 5}, 2)).abs() + 0.1;
  const auto h = z + in_float64(normal({3, 5}, 3)) * std;
  const int64_t draws = 20000;
  auto load = torch::zeros({5}, torch::kFloat64);
  for (int64_t t = 0; t < 3; ++t)
    for (int64_t i = 0; i < 5; ++i) {
      auto again = h[t].expand({draws, 5}).clone();
      again.select(1, i).copy_(z[t][i] + std[t][i] * in_float64(normal({draws}, static_cast<uint64_t>(100 + 5 * t + i))));
      load[i] += top(again, 2).eq(i).any(1).to(torch::kFloat64).mean();
    }
  const double want = (load.var(false) / load.mean().square()).item<double>();
  EXPECT_NEAR(value("load", noisy_stats(z, h, std, 2)).item<double>(), want, 0.02);
}

TEST(Load, GradientsReachLogitsAndDeviation) {
  const auto clean = in_float64(normal({6, 4}, 5)), noise = in_float64(normal({6, 4}, 6));
  auto z = clean.clone().requires_grad_(), std = (in_float64(normal({6, 4}, 7)).abs() + 0.3).requires_grad_();
  const auto loss = [&] { return value("load", noisy_stats(z, z + noise * std, std, 2)); };
  EXPECT_LT(finite_difference_gap(loss, z, 24), 1e-5);
  EXPECT_LT(finite_difference_gap(loss, std, 24), 1e-5);
}

TEST(Load, SaysThatItNeedsNoise) {
  auto s = stats_of(fixture_logits(), 2);
  s.training = true;
  expect_error(ErrorKind::config, {"load", "layer 3", "learned_gaussian"}, [&] { (void)value("load", s); });
}

TEST(DeviceBalance, PerSequenceItIsTheMeanOfTheSequencesByThemselves) {
  const auto z = normal({11, 4}, 9);
  GateInput in;
  in.sequence_ids = torch::tensor({7, 7, 7, 2, 2, 2, 2, 2, 7, 7, 2}, torch::kInt64);
  const BlockSpec alone("device_balance", {{"devices", 2}}), together("device_balance", {{"devices", 2}, {"scope", "sequence"}});
  double want = 0;
  for (const int64_t sequence : {2, 7}) want += value(alone, stats_of(z.index({in.sequence_ids.eq(sequence)}), 2)).item<double>() / 2;
  EXPECT_NEAR(value(together, stats_of(z, 2, in)).item<double>(), want, 1e-6);
}

// Two sequences by loops over the definition.
TEST(SequenceBalance, EqualsTheLoopOverSequences) {
  const auto z = normal({11, 4}, 9);
  GateInput in;
  in.sequence_ids = torch::tensor({7, 7, 7, 2, 2, 2, 2, 2, 7, 7, 2}, torch::kInt64);
  const auto s = stats_of(z, 2, in);
  double want = 0;
  for (const int64_t sequence : {2, 7}) {
    const auto rows = in.sequence_ids.eq(sequence);
    const auto p = at::softmax(z, 1).index({rows}).mean(0);
    const auto ids = top(z, 2).index({rows});
    for (int64_t e = 0; e < 4; ++e) {
      const double f = ids.eq(e).sum().item<double>() / (2 * rows.sum().item<double>());
      want += 4 * f * p[e].item<double>() / 2;
    }
  }
  EXPECT_NEAR(value("sequence_balance", s).item<double>(), want, 1e-6);
  // One sequence is the load-balancing loss.
  EXPECT_NEAR(value("sequence_balance", stats_of(z, 2)).item<double>(), value("load_balance", stats_of(z, 2)).item<double>(), 1e-6);
}

TEST(CommunicationBalance, EqualsTheLoopOverDevices) {
  const auto z = normal({9, 6}, 4);
  const auto s = stats_of(z, 2);
  const auto ids = top(z, 2), p = at::softmax(z, 1).mean(0);
  double want = 0;
  for (int64_t d = 0; d < 3; ++d) {
    double sent = 0;
    for (int64_t t = 0; t < 9; ++t) sent += ids[t].ge(2 * d).logical_and(ids[t].lt(2 * d + 2)).any().item<bool>();
    want += 3.0 / (2 * 9) * sent * (p[2 * d] + p[2 * d + 1]).item<double>();
  }
  EXPECT_NEAR(value({"communication_balance", {{"devices", 3}, {"keep", 2}}}, s).item<double>(), want, 1e-6);
  expect_error(ErrorKind::config, {"devices = 4", "6"}, [&] { (void)value({"communication_balance", {{"devices", 4}, {"keep", 2}}}, s); });
}

TEST(CommunicationBalance, EvenUseGivesOne) {
  auto ids = torch::empty({8, 2}, torch::kInt64);
  for (int64_t t = 0; t < 8; ++t) ids[t][0] = 2 * (t % 4), ids[t][1] = 2 * ((t + 1) % 4) + 1;
  GateInput in;
  in.hidden = torch::zeros({8, 1});
  const auto s = routing_stats({.choice = TokenChoice{ids, torch::ones({8, 2})}, .scores = {torch::zeros({8, 8}), torch::full({8, 8}, .125)}}, {}, in, 0, 8);
  EXPECT_NEAR(value({"communication_balance", {{"devices", 4}, {"keep", 2}}}, s).item<double>(), 1, 1e-6);
}

TEST(MutualInformation, ReproducesTheWorkedExamples) {
  GateInput in;
  in.tags = torch::tensor({0, 0, 0, 1, 1, 1}, torch::kInt64);
  const auto s = stats_of(fixture_logits(), 2, in);
  EXPECT_NEAR(value("mutual_information", s).item<double>(), -.215813, 1e-5);
  EXPECT_NEAR(value({"mutual_information", {{"of", "task"}}}, s).item<double>(), -.071242, 2e-4);  // 1e-4 inside the logarithm
  expect_error(ErrorKind::config, {"task", "tag"}, [&] { (void)value({"mutual_information", {{"of", "task"}}}, stats_of(fixture_logits(), 2)); });
}

TEST(MutualInformation, IsMinusLogEForSharpBalancedGatesAndZeroForEqualRows) {
  EXPECT_NEAR(value("mutual_information", stats_of(at::eye(4) * 60, 1)).item<double>(), -std::log(4.0), 1e-5);
  EXPECT_NEAR(value("mutual_information", stats_of(fixture_logits()[0].expand({5, 4}).contiguous(), 1)).item<double>(), 0, 1e-6);
}

TEST(MutualInformation, GradientMatchesFiniteDifferences) {
  auto z = in_float64(fixture_logits()).requires_grad_();
  GateInput in;
  in.tags = torch::tensor({0, 1, 2, 0, 1, 2}, torch::kInt64);
  for (const char* of : {"token", "task"})
    EXPECT_LT(finite_difference_gap([&] { return value({"mutual_information", {{"of", of}}}, stats_of(z, 2, in)); }, z, 24), 1e-6) << of;
  for (const char* loss : {"sequence_balance"})
    EXPECT_LT(finite_difference_gap([&] { return value(loss, stats_of(z, 2, in)); }, z, 24), 1e-6) << loss;
}

TEST(GateTerm, TakesTheNamedTermAndNamesThoseThereAre) {
  auto s = stats_of(fixture_logits(), 2);
  s.terms["threshold"] = torch::full({}, 3.5);
  EXPECT_EQ(value({"gate_term", {{"term", "threshold"}}}, s).item<double>(), 3.5);
  expect_error(ErrorKind::config, {"layer 3", "'codes'", "threshold"}, [&] { (void)value({"gate_term", {{"term", "codes"}}}, s); });
}

// A gate that adapts its coefficient scales what is trained, not what is reported as the raw value.
TEST(AuxLosses, TheScaleOfALayerMultipliesItsWeightedValue) {
  auto s = stats_of(fixture_logits(), 2);
  s.loss_scale = 0.25;
  const auto out = AuxLosses({LossSpec("load_balance", 2)})({&s, 1});
  EXPECT_NEAR(out.values[0].raw, 1.218459, 1e-5);
  EXPECT_NEAR(out.values[0].weighted, 0.5 * 1.218459, 1e-5);
  EXPECT_NEAR(out.total.item<double>(), 0.5 * 1.218459, 1e-5);
}

}  // namespace
}  // namespace switchyard::published_losses_test
