#include "infer/sampling.h"

#include "expect_error.h"
#include "switchyard/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

namespace switchyard {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// Oracle: the distribution by brute force. A token is kept when the tokens that come before it (larger logit, or equal and
// lower id) say so; written per token, without sorting.
std::vector<double> brute_force(const std::vector<float>& logits, const SamplingOptions& o) {
  const size_t n = logits.size();
  const auto before = [&](size_t a, size_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); };
  std::vector<double> p(n);
  for (size_t i = 0; i < n; ++i) p[i] = std::exp(logits[i] / o.temperature);
  const auto normalise = [&] {
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& x : p) x /= sum;
  };
  normalise();
  const auto filter = [&](const auto& keep) {
    const std::vector<double> old = p;
    for (size_t i = 0; i < n; ++i)
      if (!keep(i, old)) p[i] = 0;
    normalise();
  };
  if (o.top_k > 0)
    filter([&](size_t i, const auto&) {
      int64_t better = 0;
      for (size_t j = 0; j < n; ++j) better += before(j, i);
      return better < o.top_k;
    });
  if (o.top_p < 1)
    filter([&](size_t i, const auto& old) {
      double mass = 0;
      for (size_t j = 0; j < n; ++j) mass += before(j, i) ? old[j] : 0;
      return mass < o.top_p;
    });
  if (o.min_p > 0) filter([&](size_t i, const auto& old) { return old[i] >= o.min_p * *std::max_element(old.begin(), old.end()); });
  return p;
}

std::vector<float> some_logits(int64_t n) {
  std::vector<float> logits(static_cast<size_t>(n));
  RandomStream(11, "logits").fill_normal(logits.data(), n);
  for (float& x : logits) x *= 1.5f;
  return logits;
}

// Drawing many tokens gives the brute-force distribution: chi-square over the tokens with an expected count of at least 5,
// at a level that a right sampler misses once in 10^4 seeds (Wilson-Hilferty; the seed is fixed).
void expect_distribution(const SamplingOptions& options) {
  const auto logits = some_logits(40);
  const auto want = brute_force(logits, options);
  constexpr int64_t kDraws = 40000;
  const RandomStream random(3, "draws");
  std::vector<int64_t> counts(logits.size());
  for (int64_t i = 0; i < kDraws; ++i) {
    auto row = logits;
    ++counts[static_cast<size_t>(sample_token(row, {}, options, random.uniform(static_cast<uint64_t>(i))))];
  }
  double chi2 = 0, rest_want = 0, rest_got = 0;
  int degrees = -1;
  for (size_t i = 0; i < want.size(); ++i) {
    const double expected = want[i] * kDraws;
    if (want[i] == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i << " was filtered out";
    } else if (expected < 5) {
      rest_want += expected;
      rest_got += static_cast<double>(counts[i]);
    } else {
      chi2 += (static_cast<double>(counts[i]) - expected) * (static_cast<double>(counts[i]) - expected) / expected;
      ++degrees;
    }
  }
  if (rest_want >= 5) {
    chi2 += (rest_got - rest_want) * (rest_got - rest_want) / rest_want;
    ++degrees;
  }
  if (degrees < 1) return;
  const double k = degrees, bound = k * std::pow(1 - 2 / (9 * k) + 3.72 * std::sqrt(2 / (9 * k)), 3);
  EXPECT_LT(chi2, bound) << degrees << " degrees of freedom";
}

TEST(Sampling, DrawsFollowTheSoftmax) { expect_distribution({.temperature = 1.0}); }
TEST(Sampling, DrawsFollowTheTemperature) {
  expect_distribution({.temperature = 0.5});
  expect_distribution({.temperature = 2.0});
}
TEST(Sampling, DrawsFollowTopK) { expect_distribution({.temperature = 1.0, .top_k = 5}); }
TEST(Sampling, DrawsFollowTopP) { expect_distribution({.temperature = 1.0, .top_p = 0.7}); }
TEST(Sampling, DrawsFollowMinP) { expect_distribution({.temperature = 1.0, .min_p = 0.1}); }
TEST(Sampling, FiltersActOneAfterTheOther) {
  expect_distribution({.temperature = 0.9, .top_k = 12, .top_p = 0.8, .min_p = 0.15});
}

TEST(Sampling, TemperatureZeroTakesTheLargestLogitWhateverElseIsSet) {
  std::vector<float> logits = {1, 5, 5, -2};
  EXPECT_EQ(sample_token(logits, {}, {.temperature = 0, .top_k = 3, .top_p = 0.5}, 0.999), 1) << "ties go to the lower id";
}

TEST(Sampling, EqualLogitsAreOrderedByTheirIds) {
  const std::vector<float> logits = {0, 0, 0, 0, 0};
  auto candidates = candidates_from(logits, 1.0);
  keep_top_k(candidates, 2);
  ASSERT_EQ(candidates.size(), 2u);
  EXPECT_EQ(candidates[0].id, 0);
  EXPECT_EQ(candidates[1].id, 1);
  EXPECT_DOUBLE_EQ(candidates[0].prob, 0.5);
}

TEST(Sampling, TopPKeepsAtLeastOneToken) {
  auto candidates = candidates_from(std::vector<float>{3, 0, 0}, 1.0);
  keep_top_p(candidates, 1e-9);
  ASSERT_EQ(candidates.size(), 1u);
  EXPECT_DOUBLE_EQ(candidates[0].prob, 1.0);
}

TEST(Sampling, TopPStopsAtTheTokenThatReachesTheMass) {
  // Probabilities 1/2, 1/4, 1/8, 1/8: exact in binary, so the border is exact too.
  const float ln2 = std::log(2.0f);
  std::vector<Candidate> candidates = {{0, 0.5}, {1, 0.25}, {2, 0.125}, {3, 0.125}};
  auto three_quarters = candidates, a_little_more = candidates;
  keep_top_p(three_quarters, 0.75);
  EXPECT_EQ(three_quarters.size(), 2u);
  keep_top_p(a_little_more, 0.7500001);
  EXPECT_EQ(a_little_more.size(), 3u);
  EXPECT_EQ(candidates_from(std::vector<float>{2 * ln2, ln2, 0, 0}, 1.0).size(), 4u);
}

// The closed form: l / p above zero, l * p below, each token once, everything else untouched.
TEST(Sampling, RepetitionPenaltyHasItsClosedForm) {
  std::vector<float> logits = {2, -2, 0, 4, -1};
  const std::vector<int32_t> seen = {0, 1, 2, 0, 0, 99, -1};
  penalise_repetition(logits, seen, 1.25);
  EXPECT_EQ(logits, (std::vector<float>{1.6f, -2.5f, 0, 4, -1}));
}

TEST(Sampling, RepetitionPenaltyOfOneChangesNothing) {
  std::vector<float> logits = {2, -2};
  penalise_repetition(logits, std::vector<int32_t>{0, 1}, 1.0);
  EXPECT_EQ(logits, (std::vector<float>{2, -2}));
}

TEST(Sampling, HugeAndInfiniteLogitsAreNoTrouble) {
  const auto huge = candidates_from(std::vector<float>{3e38f, -3e38f, -kInf, NAN}, 1.0);
  ASSERT_EQ(huge.size(), 1u);
  EXPECT_EQ(huge[0].id, 0);
  std::vector<float> mixed = {NAN, 1, NAN};
  EXPECT_EQ(sample_token(mixed, {}, {.temperature = 0}, 0), 1);
}

TEST(Sampling, ARowWithoutAFiniteLogitIsAnError) {
  std::vector<float> bad = {NAN, -kInf};
  testing::expect_error(ErrorKind::numeric, {"no finite logit"}, [&] { static_cast<void>(sample_token(bad, {}, {}, 0.5)); });
}

TEST(Sampling, OptionsOutOfRangeAreNamed) {
  testing::expect_error(ErrorKind::usage, {"temperature", "-1"}, [] { check_sampling({.temperature = -1}); });
  testing::expect_error(ErrorKind::usage, {"top_k", "-3"}, [] { check_sampling({.top_k = -3}); });
  testing::expect_error(ErrorKind::usage, {"top_p", "1.5"}, [] { check_sampling({.top_p = 1.5}); });
  testing::expect_error(ErrorKind::usage, {"top_p", "0"}, [] { check_sampling({.top_p = 0}); });
  testing::expect_error(ErrorKind::usage, {"min_p", "2"}, [] { check_sampling({.min_p = 2}); });
  testing::expect_error(ErrorKind::usage, {"repetition_penalty", "0"}, [] { check_sampling({.repetition_penalty = 0}); });
  testing::expect_error(ErrorKind::usage, {"temperature", "nan"}, [] { check_sampling({.temperature = NAN}); });
}

}  // namespace
}  // namespace switchyard
