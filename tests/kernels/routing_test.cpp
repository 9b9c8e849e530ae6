#include "kernels/routing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <tuple>
#include <vector>

namespace switchyard::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

TEST(TopK, EqualsAStableSort) {
  std::mt19937 random(3);
  for (const int64_t experts : {1, 2, 7, 64, 100, 700})  // the last two by selection, too
    for (const int64_t k : {int64_t{1}, int64_t{2}, std::min<int64_t>(8, experts), std::min<int64_t>(150, experts), experts}) {
      if (k > experts) continue;
      const int64_t tokens = 50;
      std::vector<float> scores(static_cast<size_t>(tokens * experts));
      for (float& s : scores) {
        s = static_cast<float>(random() % 9) - 4;  // many ties
        if (random() % 9 == 0) s = -0.0f;
        if (random() % 11 == 0) s = -kInf;
        if (random() % 13 == 0) s = kNaN;
      }
      std::vector<int64_t> ids(static_cast<size_t>(tokens * k));
      std::vector<float> values(ids.size());
      top_k_rows(tokens, experts, k, scores.data(), ids.data(), values.data());
      for (int64_t t = 0; t < tokens; ++t) {
        const float* row = scores.data() + t * experts;
        std::vector<int64_t> want;
        for (int64_t e = 0; e < experts; ++e)
          if (row[e] > -kInf) want.push_back(e);
        std::stable_sort(want.begin(), want.end(), [&](int64_t a, int64_t b) { return row[a] > row[b]; });
        want.resize(static_cast<size_t>(k), -1);
        for (int64_t j = 0; j < k; ++j) {
          const size_t at = static_cast<size_t>(t * k + j);
          ASSERT_EQ(ids[at], want[static_cast<size_t>(j)]) << "experts=" << experts << " k=" << k << " t=" << t << " j=" << j;
          ASSERT_EQ(values[at], ids[at] < 0 ? 0.0f : row[ids[at]]);
        }
      }
    }
}

TEST(TopK, TakesPlusInfinityAndNeverMinusInfinityOrNaN) {
  const std::vector<float> scores = {-kInf, kNaN, 1.0f, kInf};
  std::vector<int64_t> ids(4);
  top_k_rows(1, 4, 4, scores.data(), ids.data(), nullptr);
  EXPECT_EQ(ids, (std::vector<int64_t>{3, 2, -1, -1}));
}

// [T, k] choices with -1 here and there and experts that nobody chooses.
std::vector<int64_t> random_choices(int64_t tokens, int64_t k, int64_t experts) {
  std::mt19937 random(5);
  std::vector<int64_t> ids(static_cast<size_t>(tokens * k));
  for (int64_t& e : ids) e = random() % 6 == 0 ? -1 : static_cast<int64_t>(random() % static_cast<uint64_t>(experts)) / 2 * 2;
  return ids;
}

// Against the quotient and its derivative in float64: every w_j by every score, one token at a time.
TEST(ChosenShares, EqualTheQuotientForwardAndBackward) {
  std::mt19937 random(4);
  const auto uniform = [&] { return 0.01f + static_cast<float>(random() % 1000) / 1000.0f; };
  for (const auto& [tokens, experts, k] : {std::tuple<int64_t, int64_t, int64_t>{1, 1, 1}, {50, 16, 2}, {9, 5, 5}, {700, 64, 8}, {0, 4, 2}}) {
    const auto ids = random_choices(tokens, k, experts);
    std::vector<float> scores(static_cast<size_t>(tokens * experts)), weights(ids.size()), d_weights(ids.size()), d_scores(scores.size(), kNaN);
    for (float& s : scores) s = uniform();
    for (float& d : d_weights) d = uniform() - 0.5f;
    chosen_shares(tokens, experts, k, scores.data(), ids.data(), weights.data());
    chosen_shares_backward(tokens, experts, k, scores.data(), ids.data(), weights.data(), d_weights.data(), d_scores.data());
    for (int64_t t = 0; t < tokens; ++t) {
      const auto chosen = [&](int64_t j) { return ids[static_cast<size_t>(t * k + j)]; };
      const auto score = [&](int64_t j) { return chosen(j) < 0 ? 0.0 : scores[static_cast<size_t>(t * experts + chosen(j))]; };
      double sum = 0;
      for (int64_t j = 0; j < k; ++j) sum += score(j);
      std::vector<double> want(static_cast<size_t>(experts));
      for (int64_t j = 0; j < k; ++j) {
        if (chosen(j) < 0) continue;
        ASSERT_NEAR(weights[static_cast<size_t>(t * k + j)], score(j) / sum, 2e-6);
        for (int64_t i = 0; i < k; ++i)  // d w_j / d s_i
          if (chosen(i) >= 0) want[static_cast<size_t>(chosen(i))] += d_weights[static_cast<size_t>(t * k + j)] * ((i == j ? 1 / sum : 0) - score(j) / (sum * sum));
      }
      for (int64_t e = 0; e < experts; ++e) ASSERT_NEAR(d_scores[static_cast<size_t>(t * experts + e)], want[static_cast<size_t>(e)], 1e-4) << t << ' ' << e;
    }
  }
}

TEST(ChosenShares, NobodyGetsNothingAndNaNIsSeen) {
  const std::vector<float> scores = {0.5f, kNaN, 0.25f, 0.0f};
  const std::vector<int64_t> ids = {-1, -1, 0, 1, 3, 3, 2, -1};
  std::vector<float> weights(8), d_weights(8, 1.0f), d_scores(16);
  std::vector<float> four_times;
  for (int t = 0; t < 4; ++t) four_times.insert(four_times.end(), scores.begin(), scores.end());
  chosen_shares(4, 4, 2, four_times.data(), ids.data(), weights.data());
  EXPECT_EQ(weights[0], 0.0f);
  EXPECT_TRUE(std::isnan(weights[2]) && std::isnan(weights[3]));
  EXPECT_EQ(weights[4], 0.0f);  // a sum of zero
  EXPECT_EQ((std::vector<float>{weights[6], weights[7]}), (std::vector<float>{1.0f, 0.0f}));
  chosen_shares_backward(4, 4, 2, four_times.data(), ids.data(), weights.data(), d_weights.data(), d_scores.data());
  EXPECT_EQ(std::vector<float>(d_scores.begin(), d_scores.begin() + 4), std::vector<float>(4, 0.0f));
}

TEST(CountingSort, EqualsAStableSortAndInverts) {
  for (const auto& [tokens, k, experts] : {std::tuple<int64_t, int64_t, int64_t>{37, 3, 8}, {1, 1, 1}, {0, 2, 4}, {100, 2, 3}})
    for (const bool with_kept : {false, true}) {
      const auto ids = random_choices(tokens, k, experts);
      std::vector<uint8_t> kept(ids.size());
      for (size_t i = 0; i < kept.size(); ++i) kept[i] = i % 3 != 1;
      std::vector<int64_t> want;
      for (int64_t c = 0; c < tokens * k; ++c)
        if (ids[static_cast<size_t>(c)] >= 0 && (!with_kept || kept[static_cast<size_t>(c)])) want.push_back(c);
      std::stable_sort(want.begin(), want.end(),
                       [&](int64_t a, int64_t b) { return ids[static_cast<size_t>(a)] < ids[static_cast<size_t>(b)]; });
      std::vector<int64_t> token(ids.size()), weight(ids.size()), offsets(static_cast<size_t>(experts + 1), 99), inverse(ids.size());
      const int64_t rows = plan_counting_sort(tokens, k, experts, ids.data(), with_kept ? kept.data() : nullptr, token.data(),
                                              weight.data(), inverse.data(), offsets.data());
      ASSERT_EQ(rows, static_cast<int64_t>(want.size()));
      weight.resize(want.size());
      EXPECT_EQ(weight, want);
      for (size_t r = 0; r < want.size(); ++r) EXPECT_EQ(token[r], want[r] / k);
      EXPECT_EQ(offsets.front(), 0);
      EXPECT_EQ(offsets.back(), rows);
      for (int64_t e = 0; e < experts; ++e)
        for (int64_t r = offsets[static_cast<size_t>(e)]; r < offsets[static_cast<size_t>(e + 1)]; ++r)
          EXPECT_EQ(ids[static_cast<size_t>(want[static_cast<size_t>(r)])], e);
      int64_t with_row = 0;
      for (int64_t c = 0; c < tokens * k; ++c) {
        const int64_t r = inverse[static_cast<size_t>(c)];
        if (r < 0) continue;
        ++with_row;
        EXPECT_EQ(want[static_cast<size_t>(r)], c);
      }
      EXPECT_EQ(with_row, rows);
    }
}

TEST(AssignSlots, FirstChoicesComeBeforeSecondOnesAndTheOrderDecidesWithinARank) {
  const std::vector<int64_t> ids = {0, 1, 0, 1, 1, 0, 0, -1};  // [4, 2]
  std::vector<uint8_t> kept(8, 9);
  assign_slots(4, 2, 2, ids.data(), nullptr, 2, kept.data());
  EXPECT_EQ(kept, (std::vector<uint8_t>{1, 1, 1, 0, 1, 0, 0, 0}));
  const std::vector<int64_t> backwards = {3, 2, 1, 0};
  assign_slots(4, 2, 2, ids.data(), backwards.data(), 2, kept.data());
  EXPECT_EQ(kept, (std::vector<uint8_t>{0, 0, 1, 1, 1, 0, 1, 0}));
}

TEST(AssignSlots, NoExpertGetsMoreThanItsCapacityAndNoPlaceIsWasted) {
  const int64_t tokens = 60, k = 3, experts = 8;
  const auto ids = random_choices(tokens, k, experts);
  for (const int64_t capacity : {0, 1, 7, 1000}) {
    std::vector<uint8_t> kept(ids.size());
    assign_slots(tokens, k, experts, ids.data(), nullptr, capacity, kept.data());
    for (int64_t e = 0; e < experts; ++e) {
      int64_t wanted = 0, granted = 0;
      for (size_t c = 0; c < ids.size(); ++c) wanted += ids[c] == e, granted += ids[c] == e && kept[c];
      EXPECT_EQ(granted, std::min(wanted, capacity));
    }
  }
}

}  // namespace
}  // namespace switchyard::kernels
