#include "switchyard/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace switchyard {
namespace {

TEST(RandomStream, IsAFunctionOfSeedNameAndIndex) {
  const RandomStream a(1, "jitter");
  EXPECT_EQ(a.bits(5), RandomStream(1, "jitter").bits(5));
  EXPECT_NE(a.bits(5), a.bits(6));
  EXPECT_NE(a.bits(5), RandomStream(2, "jitter").bits(5));
  EXPECT_NE(a.bits(5), RandomStream(1, "dropout").bits(5));
  EXPECT_NE(a.at("layer", 0).bits(5), a.at("layer", 1).bits(5));
  EXPECT_NE(a.at("layer", 0).bits(5), a.at("layer").bits(5));
}

TEST(RandomStream, FillEqualsSingleDrawsFromAnyStart) {
  const RandomStream s(3);
  std::vector<float> whole(70000), part(100);
  s.fill_uniform(whole.data(), 70000);
  s.fill_uniform(part.data(), 100, 69900);
  for (size_t i = 0; i < 100; ++i) EXPECT_EQ(part[i], whole[69900 + i]);
  s.fill_normal(whole.data(), 70000);
  s.fill_normal(part.data(), 100, 69900);
  for (size_t i = 0; i < 100; ++i) EXPECT_EQ(part[i], whole[69900 + i]);
}

TEST(RandomStream, UniformsFillTheUnitIntervalEvenly) {
  const RandomStream s(4);
  const int n = 160000, cells = 16;
  std::vector<int> count(cells);
  for (int i = 0; i < n; ++i) {
    const double u = s.uniform(static_cast<uint64_t>(i));
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ++count[static_cast<size_t>(u * cells)];
  }
  double chi2 = 0;
  for (const int c : count) chi2 += std::pow(c - n / cells, 2) / (n / cells);
  EXPECT_LT(chi2, 37.7);  // 15 degrees of freedom, one chance in a thousand
}

TEST(RandomStream, NormalsHaveTheMomentsOfTheirLaw) {
  const RandomStream s(5);
  const int n = 200000;
  double m1 = 0, m2 = 0, m4 = 0;
  for (int i = 0; i < n; ++i) {
    const double x = s.normal(static_cast<uint64_t>(i));
    m1 += x / n;
    m2 += x * x / n;
    m4 += x * x * x * x / n;
  }
  EXPECT_NEAR(m1, 0, 4 / std::sqrt(n));
  EXPECT_NEAR(m2, 1, 4 * std::sqrt(2.0 / n));
  EXPECT_NEAR(m4, 3, 4 * std::sqrt(96.0 / n));
}

TEST(RandomStream, BelowStaysBelowAndReachesEverything) {
  const RandomStream s(6);
  std::vector<int> seen(7);
  for (uint64_t i = 0; i < 700; ++i) ++seen[s.below(i, 7)];
  for (const int c : seen) EXPECT_GT(c, 50);
}

}  // namespace
}  // namespace switchyard
