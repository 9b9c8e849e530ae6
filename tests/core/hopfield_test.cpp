// Retrieval from stored patterns: its limits, its energy, its gradient.
#include "core/hopfield.h"

#include "support/gate_fixture.h"

namespace switchyard::hopfield_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::normal;

torch::Tensor directions(int64_t rows, int64_t d, uint64_t seed) {
  const auto x = normal({rows, d}, seed);
  return x / x.norm(2, -1, true);
}

// Oracle: one state and one pattern at a time, in float64.
TEST(Hopfield, UpdateIsTheMeanOfPatternsByTheirAssociation) {
  const auto states = normal({5, 3}, 1), patterns = normal({4, 3}, 2);
  const auto got = hopfield::update(states, patterns, 0.7);
  for (int64_t q = 0; q < 5; ++q) {
    double total = 0, sum[3] = {0, 0, 0};
    for (int64_t p = 0; p < 4; ++p) {
      const double a = std::exp(0.7 * at::dot(states[q].to(torch::kFloat64), patterns[p].to(torch::kFloat64)).item<double>());
      total += a;
      for (int64_t i = 0; i < 3; ++i) sum[i] += a * patterns[p][i].item<double>();
    }
    for (int64_t i = 0; i < 3; ++i) EXPECT_NEAR(got[q][i].item<double>(), sum[i] / total, 1e-6);
  }
  EXPECT_TRUE(all_close(hopfield::association(states, patterns, 0.7).sum(1), torch::ones({5}), 1e-6));
}

TEST(Hopfield, ALargeBetaReturnsTheNearestPattern) {
  const auto states = directions(40, 6, 1), patterns = directions(9, 6, 2);
  const auto nearest = at::cdist(states, patterns).argmin(1);
  EXPECT_TRUE(all_close(hopfield::update(states, patterns, 1e5), patterns.index_select(0, nearest), 1e-4));
}

TEST(Hopfield, SeparatedPatternsAreFixedPoints) {
  const auto patterns = at::eye(6);
  for (const double beta : {10.0, 20.0}) EXPECT_LT((hopfield::update(patterns, patterns, beta) - patterns).norm(2, -1).max().item<double>(), 1e-3) << beta;
  // Without sharpness everything returns the mean of all.
  EXPECT_TRUE(all_close(hopfield::update(patterns, patterns, 1e-6), torch::full({6, 6}, 1.0 / 6), 1e-5));
}

TEST(Hopfield, NoUpdateRaisesTheEnergy) {
  const auto patterns = normal({12, 5}, 3).to(torch::kFloat64);
  for (const double beta : {0.1, 1.0, 8.0}) {
    auto states = 3 * normal({30, 5}, 4).to(torch::kFloat64);
    auto before = hopfield::energy(states, patterns, beta);
    const auto first = before;
    for (int64_t step = 0; step < 12; ++step) {
      states = hopfield::update(states, patterns, beta);
      const auto after = hopfield::energy(states, patterns, beta);
      EXPECT_LE((after - before).max().item<double>(), 1e-12) << beta << ", step " << step;
      before = after;
    }
    EXPECT_LT((before - first).max().item<double>(), 0) << beta;
  }
}

// dE/dxi = xi - update(xi): the update is where the gradient of the energy is zero if the association stayed.
TEST(Hopfield, TheGradientOfTheEnergyIsTheWayTheUpdateGoes) {
  const auto patterns = normal({7, 4}, 5).to(torch::kFloat64);
  auto states = normal({3, 4}, 6).to(torch::kFloat64).requires_grad_();
  hopfield::energy(states, patterns, 1.5).sum().backward();
  EXPECT_TRUE(all_close(states.grad(), (states - hopfield::update(states, patterns, 1.5)).detach(), 1e-10));
}

TEST(Hopfield, GradientReachesStatesAndPatterns) {
  auto states = normal({3, 4}, 6).to(torch::kFloat64).requires_grad_(), patterns = normal({7, 4}, 5).to(torch::kFloat64).requires_grad_();
  const auto dy = normal({3, 4}, 7).to(torch::kFloat64);
  const auto loss = [&] { return (hopfield::update(hopfield::update(states, patterns, 1.5), patterns, 1.5) * dy).sum(); };
  EXPECT_LT(testing::finite_difference_gap(loss, states), 1e-5);
  EXPECT_LT(testing::finite_difference_gap(loss, patterns, 28), 1e-5);
}

}  // namespace
}  // namespace switchyard::hopfield_test
