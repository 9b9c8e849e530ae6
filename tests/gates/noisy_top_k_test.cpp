// Noise before the choice: learned deviation, Gumbel.
#include "support/gate_fixture.h"
#include "switchyard/loss.h"

#include <cmath>

namespace switchyard::noisy_top_k_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::choose;
using testing::gate_of;
using testing::gate_on_logits;
using testing::input_of;
using testing::normal;

ConfigNode::Table shazeer(int64_t k) {
  return {{"score", {{"kind", "linear"}, {"init_scale", 0.0}}}, {"noise", "learned_gaussian"}, {"select", {{"kind", "top_k"}, {"k", k}}}, {"weigh", "softmax_chosen"}};
}

TEST(NoisyTopK, StartsWithEqualLogitsEqualNoiseAndEvenLoads) {
  auto gate = gate_of(shazeer(2), 6, 8);
  const auto in = input_of(normal({4000, 6}, 2), true);
  const auto stats = testing::stats_of(*gate, in, 8);
  EXPECT_EQ(stats.scores.logits.abs().max().item<float>(), 0);
  EXPECT_TRUE(all_close(stats.scores.noise_std, torch::full({4000, 8}, .703147), 1e-5));
  const double mean = 4000 * 2 / 8.0, deviation = std::sqrt(4000 * 0.25 * 0.75);
  EXPECT_LT((stats.counts - mean).abs().max().item<double>(), 5 * deviation);
}

TEST(NoisyTopK, ChoosesExactlyKAndWeightsSumToOne) {
  auto gate = gate_of(shazeer(3), 6, 8);
  const auto choice = choose(*gate, normal({100, 6}, 3), true);
  EXPECT_TRUE((choice.expert_ids >= 0).all().item<bool>());
  EXPECT_TRUE(all_close(choice.weights.sum(1), torch::ones({100}), 1e-6));
}

TEST(NoisyTopK, NoiseHasTheDeviationThatTheTokenAsksForAndEvaluationHasNone) {
  auto gate = gate_on_logits({{"noise", "learned_gaussian"}}, 4);
  {
    torch::NoGradGuard no_grad;
    gate->named_parameters()["noise.weight"].copy_(at::eye(4) * 2);
  }
  const auto x = torch::tensor({1.f, -1.f, 0.f, 2.f}).expand({20000, 4}).contiguous();
  const auto scores = gate->route(input_of(x, true)).scores;
  const auto want = at::softplus(2 * x[0]) + 1e-2;
  EXPECT_TRUE(all_close((scores.noisy - scores.logits).std(0), want, 0.03));
  auto in = input_of(x.slice(0, 0, 5).contiguous());
  const auto first = gate->route(in);
  in.random = RandomStream(99);
  const auto second = gate->route(in);
  EXPECT_FALSE(first.scores.noise_std.defined());
  EXPECT_TRUE(torch::equal(std::get<TokenChoice>(first.choice).weights, std::get<TokenChoice>(second.choice).weights));
}

TEST(NoisyTopK, BothLossesReachRouterAndNoise) {
  auto gate = gate_of(shazeer(2), 6, 8);
  const auto stats = testing::stats_of(*gate, input_of(normal({50, 6}, 3), true), 8);
  AuxLosses({LossSpec("importance", 0.1), LossSpec("load", 0.1)})({&stats, 1}).total.backward();
  EXPECT_GT(gate->named_parameters()["score.weight"].grad().abs().sum().item<double>(), 0);
  EXPECT_GT(gate->named_parameters()["noise.weight"].grad().abs().sum().item<double>(), 0);
}

TEST(Gumbel, TheLargestNoisyLogitIsADrawFromTheSoftmax) {
  const auto z = torch::tensor({1.0f, 0.0f, -1.0f, 0.5f}).expand({40000, 4}).contiguous();
  auto gate = gate_on_logits({{"noise", "gumbel"}, {"select", {{"kind", "top_k"}, {"k", 1}}}, {"weigh", "raw"}});
  const auto counts = at::bincount(choose(*gate, z, true).expert_ids.reshape({-1}), {}, 4).to(torch::kFloat64) / 40000;
  EXPECT_TRUE(all_close(counts, at::softmax(z[0].to(torch::kFloat64), 0), 4 * 0.5 / 200));
  EXPECT_TRUE(choose(*gate, z).expert_ids.eq(0).all().item<bool>());
}

}  // namespace
}  // namespace switchyard::noisy_top_k_test
