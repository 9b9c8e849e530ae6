// The score-function estimator on a bandit whose exact gradient is known.
#include "core/rewards.h"
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/loss.h"

#include <cmath>
#include <limits>

namespace switchyard::policy_gradient_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::expect_error;

// Two arms that cost 1.0 and 2.5; `z` are the logits of every token.
struct Bandit {
  torch::Tensor z;  // [2], with gradient

  [[nodiscard]] RoutingStats play(int64_t tokens, uint64_t seed, double baseline = 0) const {
    const auto logits = z.expand({tokens, 2});
    const auto p = at::softmax(logits, 1);
    auto u = torch::empty({tokens});
    RandomStream(seed).fill_uniform(u.data_ptr<float>(), tokens);
    const auto ids = (u >= p.detach().select(1, 0)).to(torch::kInt64).unsqueeze(1);
    GateInput in;
    in.hidden = torch::zeros({tokens, 1});
    auto s = routing_stats({.choice = TokenChoice{ids, torch::ones({tokens, 1})}, .scores = {logits, p}}, {}, in, 0, 2);
    s.token_loss = 1.0 + 1.5 * ids.select(1, 0).to(torch::kFloat32);
    s.terms["baseline"] = torch::full({tokens}, baseline);
    return s;
  }
  // d/dz of p_0 * 1.0 + p_1 * 2.5.
  [[nodiscard]] double exact() const {
    const auto p = at::softmax(z.detach(), 0);
    return (p[0] * p[1]).item<double>() * (1.0 - 2.5);
  }
};

torch::Tensor gradient(Bandit& bandit, const RoutingStats& s, const char* baseline) {
  bandit.z.mutable_grad() = torch::Tensor();
  loss_registry().make(BlockSpec("policy_gradient", {{"baseline", baseline}}))->value(s).backward();
  return bandit.z.grad()[0];
}

TEST(PolicyGradient, IsUnbiasedWithAndWithoutBaseline) {
  Bandit bandit{torch::tensor({0.4f, -0.3f}).requires_grad_()};
  const int64_t tokens = 100000;
  const auto p = at::softmax(bandit.z.detach(), 0);
  const double p0 = p[0].item<double>(), p1 = p[1].item<double>();
  for (const auto& [name, level] : {std::pair{"none", 0.0}, std::pair{"learned", -1.6}, std::pair{"mean", 0.0}}) {
    // One token gives -(1 - p0) A_0 with chance p0, p0 A_1 with chance p1; the largest of their sizes bounds the deviation.
    const double spread = std::max(std::abs((1 - p0) * (-1.0 - level)), std::abs(p0 * (-2.5 - level)));
    const double got = gradient(bandit, bandit.play(tokens, 7, level), name).item<double>();
    EXPECT_NEAR(got, bandit.exact(), 3 * spread / std::sqrt(static_cast<double>(tokens))) << name << " p1 " << p1;
  }
}

TEST(PolicyGradient, ABaselineLowersTheVarianceAndNotTheMean) {
  Bandit bandit{torch::tensor({0.4f, -0.3f}).requires_grad_()};
  const auto moments = [&](const char* baseline) {
    double sum = 0, squares = 0;
    for (uint64_t seed = 0; seed < 400; ++seed) {
      const double g = gradient(bandit, bandit.play(20, seed, -1.6), baseline).item<double>();
      sum += g;
      squares += g * g;
    }
    return std::pair{sum / 400, squares / 400 - sum * sum / 160000};
  };
  const auto [plain_mean, plain_variance] = moments("none");
  const auto [mean, variance] = moments("learned");
  EXPECT_LT(variance, plain_variance / 3);
  EXPECT_NEAR(mean, plain_mean, 3 * std::sqrt((variance + plain_variance) / 400));
}

TEST(PolicyGradient, FindsTheBetterArm) {
  Bandit bandit{torch::zeros({2}).requires_grad_()};
  for (uint64_t step = 0; step < 300; ++step) {
    (void)gradient(bandit, bandit.play(16, step, -1.5), "learned");
    torch::NoGradGuard no_grad;
    bandit.z.sub_(bandit.z.grad() * 0.1);
  }
  EXPECT_GT(at::softmax(bandit.z.detach(), 0)[0].item<double>(), 0.9);
}

TEST(PolicyGradient, TokensWithoutATaskLossDoNotCountAndAbsenceIsSaid) {
  Bandit bandit{torch::tensor({0.4f, -0.3f}).requires_grad_()};
  auto s = bandit.play(50, 3), part = s;
  s.token_loss.slice(0, 10) = std::numeric_limits<float>::quiet_NaN();
  part.num_tokens = 10;
  part.expert_ids = s.expert_ids.slice(0, 0, 10);
  part.scores.probs = s.scores.probs.slice(0, 0, 10);
  part.token_loss = s.token_loss.slice(0, 0, 10);
  const double whole = gradient(bandit, s, "mean").item<double>();
  auto again = bandit.play(50, 3);
  part.scores.probs = again.scores.probs.slice(0, 0, 10);
  EXPECT_NEAR(whole, gradient(bandit, part, "mean").item<double>(), 1e-6);
  s.token_loss = torch::Tensor();
  expect_error(ErrorKind::config, {"policy_gradient", "task loss of each token"}, [&] { (void)loss_registry().make("policy_gradient")->value(s); });
  s = bandit.play(5, 3);
  s.terms.clear();
  expect_error(ErrorKind::config, {"reward_baseline", "baseline = true"}, [&] { (void)loss_registry().make("reward_baseline")->value(s); });
}

TEST(RewardBaseline, IsHubersLossAndItsGradientMatchesFiniteDifferences) {
  Bandit bandit{torch::zeros({2})};
  auto s = bandit.play(6, 3);
  s.token_loss = torch::tensor({0.5f, 3.f, 1.f, 0.f, 2.f, 1.5f});
  auto b = torch::tensor({-0.2, 0.5, -1.0, -0.9, -0.4, -3.5}, torch::kFloat64).requires_grad_();
  s.terms["baseline"] = b;
  double want = 0;
  const double rewards[] = {-0.5, -3, -1, 0, -2, -1.5};
  for (int i = 0; i < 6; ++i) {
    const double x = std::abs(rewards[i] - b[i].item<double>());
    want += (x <= 1 ? x * x / 2 : x - 0.5) / 6;
  }
  const auto loss = [&] { return loss_registry().make("reward_baseline")->value(s); };
  EXPECT_NEAR(loss().item<double>(), want, 1e-6);
  EXPECT_LT(testing::finite_difference_gap(loss, b, 6), 1e-5);
}

TEST(NegativeEntropy, IsMinusLogEForUniformGatesAndZeroForSharpOnes) {
  GateInput in;
  in.hidden = torch::zeros({3, 1});
  const auto of = [&](const torch::Tensor& p) {
    return loss_registry().make("negative_entropy")->value(routing_stats({.choice = TokenChoice{torch::zeros({3, 1}, torch::kInt64), torch::ones({3, 1})}, .scores = {p, p}}, {}, in, 0, 4)).item<double>();
  };
  EXPECT_NEAR(of(torch::full({3, 4}, 0.25)), -std::log(4.0), 1e-6);
  EXPECT_NEAR(of(at::eye(4).slice(0, 0, 3)), 0, 1e-6);
}

}  // namespace
}  // namespace switchyard::policy_gradient_test
