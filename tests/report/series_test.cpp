#include "report/series.h"

#include <gtest/gtest.h>

#include <cmath>

#include "report/routing_figures.h"

namespace switchyard::report {
namespace {

Series line(size_t n, double a, double b) {
  Series s;
  for (size_t i = 0; i < n; ++i) s.push_back({static_cast<double>(i), a + b * static_cast<double>(i)});
  return s;
}

TEST(Smooth, AStraightLineStaysAStraightLine) {
  for (const size_t n : {1u, 2u, 3u, 10u, 101u})
    for (const size_t half : {0u, 1u, 3u, 40u, 200u}) {
      const Series s = line(n, 3, -0.25), got = smooth(s, half);
      ASSERT_EQ(got.size(), n);
      for (size_t i = 0; i < n; ++i) EXPECT_NEAR(got[i].y, s[i].y, 1e-9) << n << " " << half << " " << i;
    }
}

TEST(Smooth, TheMiddleIsTheMeanOfTheWindow) {
  Series s = line(9, 0, 0);
  s[4].y = 5;
  EXPECT_NEAR(smooth(s, 2)[4].y, 1, 1e-12);
  EXPECT_NEAR(smooth(s, 2)[2].y, 1, 1e-12);
  EXPECT_NEAR(smooth(s, 2)[1].y, 0, 1e-12);
}

TEST(Thin, KeepsEndsAndSpikesAndOrder) {
  Series s = line(10000, 0, 0);
  s[5003].y = 7;
  s[7001].y = -7;
  const Series got = thin(s, 200);
  EXPECT_LE(got.size(), 202u);
  EXPECT_EQ(got.front().x, 0);
  EXPECT_EQ(got.back().x, 9999);
  double low = 0, high = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    low = std::min(low, got[i].y);
    high = std::max(high, got[i].y);
    EXPECT_TRUE(i == 0 || got[i - 1].x < got[i].x) << i;
  }
  EXPECT_EQ(low, -7);
  EXPECT_EQ(high, 7);
}

TEST(ValueAt, ReadsBetweenPointsAndNotBeyond) {
  const Series s = {{0, 4}, {2, 0}};
  EXPECT_EQ(value_at(s, 0.5), 3);
  EXPECT_EQ(value_at(s, 2), 0);
  EXPECT_TRUE(std::isnan(value_at(s, 2.1)));
  EXPECT_TRUE(std::isnan(value_at({}, 0)));
}

TEST(FirstReach, IsWhereTheLineCrosses) {
  const Series s = {{0, 4}, {2, 0}, {3, 5}};
  EXPECT_EQ(first_x_at_or_below(s, 1), 1.5);
  EXPECT_EQ(first_x_at_or_below(s, 4), 0);
  EXPECT_TRUE(std::isnan(first_x_at_or_below(s, -1)));
}

TEST(Spread, CoversWhatAllMembersCover) {
  const auto got = spread_of({{{0, 1}, {4, 1}}, {{1, 3}, {3, 5}}});
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].x, 1);
  EXPECT_EQ(got[0].mean, 2);
  EXPECT_EQ(got[1].low, 1);
  EXPECT_EQ(got[1].high, 5);
  EXPECT_TRUE(spread_of({{{0, 1}}, {}}).empty());
}

TEST(Median, LeavesOutWhatIsMissing) {
  EXPECT_EQ(median({3, NAN, 1, 2}), 2);
  EXPECT_EQ(median({4, 1}), 2.5);
  EXPECT_TRUE(std::isnan(median({NAN})));
}

// Independence gives 0 bits, one expert per category the entropy of the category.
TEST(CategoryBits, ClosedForms) {
  EXPECT_NEAR(category_bits({{0.1, 0.9}, {0.1, 0.9}, {0.1, 0.9}}), 0, 1e-12);
  EXPECT_NEAR(category_bits({{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}}), 2, 1e-12);
  EXPECT_NEAR(category_bits({{2, 0}, {0, 2}, {0, 0}}), 1, 1e-12);
  EXPECT_TRUE(std::isnan(category_bits({})));
}

TEST(LargestOffDiagonal, IgnoresTheDiagonalAndTheSign) {
  EXPECT_EQ(largest_off_diagonal({{1, -0.4}, {0.2, 1}}), 0.4);
  EXPECT_TRUE(std::isnan(largest_off_diagonal({{1}})));
}

}  // namespace
}  // namespace switchyard::report
