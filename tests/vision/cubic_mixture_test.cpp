// The theory model of top-1 mixtures (arXiv:2208.02813).
#include "vision/cubic_mixture.h"

#include "support/moe_oracle.h"
#include "switchyard/error.h"
#include "vision/patches.h"
#include "vision/task.h"
#include "vision/training.h"

namespace switchyard::cubic_mixture_test {  // its own: tests of a folder compile as one unit
namespace {

using namespace vision;

TEST(ClusterPatches, HoldTheSignalsOfTheirCluster) {
  const ClusterPatches data(3);
  const auto s = data.draw("train", 400);
  ASSERT_EQ(s.x.sizes(), (std::vector<int64_t>{400, 4, 50}));
  // Norms of the three signals lie in their ranges; noise has norm near 1.
  const auto norms = std::get<0>(s.x.norm(2, {2}).sort(1));
  EXPECT_GE(norms.min().item<double>(), 0.4);
  EXPECT_LE(norms.max().item<double>(), 3.01);
  // The same seed gives the same, another part other samples.
  EXPECT_TRUE(torch::equal(s.x, ClusterPatches(3).draw("train", 400).x));
  EXPECT_FALSE(torch::equal(s.x, data.draw("test", 400).x));
  EXPECT_EQ(s.cluster.max().item<int64_t>(), 3);
}

TEST(CubicMixture, EqualsLoops) {
  for (const bool linear : {false, true}) {
    CubicMixture model({.experts = 3, .filters = 2, .linear = linear, .init_factor = 1}, 7, 1);
    const torch::NoGradGuard no_grad;
    model.router().copy_(normal(RandomStream(5), {3, 7}));
    const auto x = normal(RandomStream(4), {9, 4, 7});
    const auto out = model.forward(x);
    for (int64_t b = 0; b < 9; ++b) {
      std::vector<double> h, sum(2);
      double total = 0;
      for (int64_t m = 0; m < 3; ++m) {
        h.push_back(0);
        for (int64_t p = 0; p < 4; ++p) h.back() += at::dot(model.router()[m], x[b][p]).item<double>();
        total += std::exp(h.back());
      }
      const auto best = std::max_element(h.begin(), h.end()) - h.begin();
      EXPECT_EQ(out.choice[b].item<int64_t>(), best);
      for (int64_t j = 0; j < 4; ++j)
        for (int64_t p = 0; p < 4; ++p) {
          const double z = at::dot(model.filters()[best][j], x[b][p]).item<double>();
          sum[static_cast<size_t>(j / 2)] += linear ? z : z * z * z;
        }
      for (int64_t c = 0; c < 2; ++c) EXPECT_NEAR(out.scores[b][c].item<double>(), std::exp(h[static_cast<size_t>(best)]) / total * sum[static_cast<size_t>(c)], 1e-5);
    }
  }
}

TEST(CubicMixture, NoiseAloneRoutesAtTheStart) {
  CubicMixture model({.experts = 8}, 50, 1);
  const int64_t n = 8000;
  const auto out = model.forward(ClusterPatches(1).draw("train", n).x, uniform(RandomStream(9), {n, 8}));
  const auto counts = at::bincount(out.choice, {}, 8).to(torch::kFloat64);
  const double mean = n / 8.0, sigma = std::sqrt(n * (1 / 8.0) * (7 / 8.0));
  EXPECT_LT((counts - mean).abs().max().item<double>(), 4 * sigma);
}

TEST(CubicMixture, EveryExpertMovesByTheLearningRateAndOneWithoutSamplesNotAtAll) {
  CubicMixture model({.experts = 4}, 50, 1);
  const auto data = ClusterPatches(1).draw("train", 200);
  auto noise = uniform(RandomStream(9), {200, 4});
  noise.select(1, 2).fill_(-1);  // nobody goes to expert 2
  cross_entropy(model.forward(data.x, noise).scores, data.labels).backward();
  const auto before = model.filters().detach().clone();
  normalised_step(model.filters(), 1e-3);
  const auto moved = (model.filters().detach() - before).flatten(1).to(torch::kFloat64).norm(2, {1});
  for (int64_t m = 0; m < 4; ++m) EXPECT_NEAR(moved[m].item<double>(), m == 2 ? 0 : 1e-3, 1e-7) << m;
}

TEST(CubicMixture, GradientsMatchFiniteDifferencesInFloat64) {
  CubicMixture model({.experts = 3, .filters = 2, .init_factor = 1}, 7, 1);
  model.to(torch::kFloat64);
  {
    const torch::NoGradGuard no_grad;
    model.router().copy_(normal(RandomStream(5), {3, 7}));
  }
  const auto x = normal(RandomStream(4), {9, 4, 7}).to(torch::kFloat64);
  const auto labels = integers(RandomStream(6), 9, 2);
  const auto loss = [&] { return cross_entropy(model.forward(x).scores, labels); };
  for (auto& p : model.parameters()) EXPECT_LT(testing::finite_difference_gap(loss, p), 1e-5);
}

std::vector<Measure> trained(ConfigNode options, int64_t steps) {
  for (const auto& [key, value] : {std::pair{"train_samples", 2000}, {"test_samples", 2000}}) options.table()->emplace_back(key, value);
  options.table()->emplace_back("expert_lr", 5e-3);
  return task_registry().make(BlockSpec("cubic_mixture", options))->run({.seed = 1, .steps = steps});
}

// The theorem: the nonlinear mixture solves what its controls do not, and its routing comes to follow the clusters.
TEST(CubicMixture, SolvesWhatASingleNetworkAndLinearExpertsDoNot) {
  const auto mixture = trained({{"experts", 8}}, 500);
  const double accuracy = value_of(mixture, "test_accuracy");
  EXPECT_GT(accuracy, 0.95);
  EXPECT_LT(value_of(mixture, "routing_entropy_given_cluster"), 0.6 * value_of(mixture, "routing_entropy_at_start"));
  EXPECT_LT(value_of(trained({{"linear", true}}, 100), "test_accuracy"), accuracy - 0.1);
  EXPECT_LT(value_of(trained({{"experts", 1}, {"filters", 32}}, 300), "test_accuracy"), accuracy - 0.1);
}

}  // namespace
}  // namespace switchyard::cubic_mixture_test
