#include "report/palette.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>

namespace switchyard::report {
namespace {

using Vec = std::array<double, 3>;
using Mat = std::array<Vec, 3>;

// Simulated protanopia, deuteranopia, tritanopia on linear RGB: Machado, Oliveira and Fernandes 2009, severity 1.
constexpr std::array<Mat, 4> kSight = {{
    {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}},
    {{{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}}},
    {{{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}}},
    {{{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}}},
}};

// OKLab from linear RGB (Ottosson 2020).
constexpr Mat kToLms = {{{0.4122214708, 0.5363325363, 0.0514459929}, {0.2119034982, 0.6806995451, 0.1073969566}, {0.0883024619, 0.2817188376, 0.6299787005}}};
constexpr Mat kToLab = {{{0.2104542553, 0.7936177850, -0.0040720468}, {1.9779984951, -2.4285922050, 0.4505937099}, {0.0259040371, 0.7827717662, -0.8086757660}}};

Vec times(const Mat& m, const Vec& v) {
  Vec out{};
  for (size_t r = 0; r < 3; ++r)
    for (size_t c = 0; c < 3; ++c) out[r] += m[r][c] * v[c];
  return out;
}

Vec oklab(uint32_t rgb, const Mat& sight) {
  Vec linear{};
  for (size_t i = 0; i < 3; ++i) {
    const double v = ((rgb >> (16 - 8 * i)) & 0xFF) / 255.0;
    linear[i] = v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4);
  }
  linear = times(sight, linear);
  for (double& v : linear) v = std::fmin(std::fmax(v, 0), 1);
  Vec lms = times(kToLms, linear);
  for (double& v : lms) v = std::cbrt(v);
  return times(kToLab, lms);
}

double distance(uint32_t a, uint32_t b) {
  double least = HUGE_VAL;
  for (const Mat& sight : kSight) {
    const Vec p = oklab(a, sight), q = oklab(b, sight);
    least = std::fmin(least, 100 * std::hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]));
  }
  return least;
}

double least_distance(size_t n) {
  double least = HUGE_VAL;
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < i; ++j) least = std::fmin(least, distance(expert_colour(i), expert_colour(j)));
  return least;
}

// A difference of about 2 (in hundredths of OKLab) is just seen side by side.
TEST(Palette, ColoursStayApartUnderEveryKindOfSight) {
  EXPECT_GE(least_distance(8), 12);
  EXPECT_GE(least_distance(16), 7);
  EXPECT_GE(least_distance(32), 4.5);
  EXPECT_GE(least_distance(64), 3);
}

TEST(Palette, RepeatsBeyondItsEnd) { EXPECT_EQ(expert_colour(kNumExpertColours + 3), expert_colour(3)); }

TEST(Palette, CssHasOnePropertyPerExpert) {
  EXPECT_EQ(expert_colour_css(1), "--e0:38 104 213;");
  EXPECT_EQ(expert_colour_css(500), expert_colour_css(64));
}

TEST(DepthColour, DiffersFromLayerToLayer) {
  std::set<std::string> seen;
  for (size_t i = 0; i < 24; ++i) seen.insert(depth_colour(i, 24));
  EXPECT_EQ(seen.size(), 24u);
  EXPECT_EQ(depth_colour(0, 1), depth_colour(0, 5));
}

}  // namespace
}  // namespace switchyard::report
