#include "kernels/activation.h"

#include <limits>

#include "kernels/per_isa_test.h"

namespace switchyard::kernels {
namespace {

constexpr Activation kRamps[] = {Activation::relu, Activation::gelu, Activation::gelu_tanh, Activation::silu};  // 0 far below, x far above
constexpr Activation kAll[] = {Activation::relu,    Activation::gelu,     Activation::gelu_tanh, Activation::silu,
                               Activation::sigmoid, Activation::identity, Activation::relu2};

class ActivationKernel : public PerIsa {};
INSTANTIATE_TEST_SUITE_P(Isa, ActivationKernel, vector_isas(), isa_name);

long double exact(Activation kind, long double x) {
  switch (kind) {
    case Activation::relu: return x > 0 ? x : 0;
    case Activation::gelu: return x * std::erfc(-x / std::sqrt(2.0L)) / 2;
    case Activation::gelu_tanh: return x / (1 + std::exp(-2 * std::sqrt(2 / 3.14159265358979323846L) * (x + 0.044715L * x * x * x)));
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::sigmoid: return 1 / (1 + std::exp(-x));
    case Activation::identity: return x;
    case Activation::relu2: return x > 0 ? x * x : 0;
  }
  return 0;
}

long double exact_slope(Activation kind, long double x) {
  if (kind == Activation::relu) return x > 0;
  const long double step = 1e-6L;
  return (exact(kind, x + step) - exact(kind, x - step)) / (2 * step);
}

std::vector<float> values(Activation kind, const std::vector<float>& x) {
  const int64_t n = static_cast<int64_t>(x.size());
  std::vector<float> y(x.size());
  activation_forward(kind, 1, n, {x.data(), n}, {}, {y.data(), n});
  return y;
}

std::vector<float> slopes(Activation kind, const std::vector<float>& x) {
  const int64_t n = static_cast<int64_t>(x.size());
  std::vector<float> dy(x.size(), 1.0f), dx(x.size());
  activation_backward(kind, 1, n, {x.data(), n}, {}, {dy.data(), n}, {dx.data(), n}, {}, {});
  return dx;
}

TEST_P(ActivationKernel, StaysWithinItsAccuracyFromMinus20To20) {
  std::vector<float> x;
  for (int i = -200000; i <= 200000; ++i) x.push_back(static_cast<float>(i) * 1e-4f);
  for (const Activation kind : kAll) {
    const auto y = values(kind, x), dy = slopes(kind, x);
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_NEAR(y[i], static_cast<double>(exact(kind, x[i])), 1e-6 * std::max({1.0f, std::abs(x[i]), std::abs(y[i])})) << "phi at " << x[i];
      ASSERT_NEAR(dy[i], static_cast<double>(exact_slope(kind, x[i])), 2e-6) << "slope at " << x[i];
    }
  }
}

TEST_P(ActivationKernel, GivesTheKnownValues) {
  const std::vector<float> x = {-2.0f, -1.0f, -0.5f, 0.0f, 0.5f, 1.0f, 2.0f};
  expect_close(values(Activation::gelu, x), {-0.0455003, -0.158655, -0.154269, 0, 0.345731, 0.841345, 1.9544997}, 1e-6, "gelu");
  expect_close(values(Activation::silu, x), {-0.238406, -0.268941, -0.18877, 0, 0.31123, 0.731059, 1.761594}, 1e-6, "silu");
}

TEST_P(ActivationKernel, HasLimitsAtInfinityAndKeepsNaN) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {-inf, inf, -3e38f, 3e38f, std::numeric_limits<float>::quiet_NaN()};
  for (const Activation kind : kRamps) {
    const auto y = values(kind, x), dy = slopes(kind, x);
    EXPECT_EQ(y[0], 0.0f);
    EXPECT_EQ(y[1], inf);
    EXPECT_EQ(y[2], 0.0f);
    EXPECT_EQ(y[3], 3e38f);
    EXPECT_TRUE(std::isnan(y[4]));
    EXPECT_NEAR(dy[0], 0.0f, 1e-30f);
    EXPECT_EQ(dy[1], 1.0f);
    EXPECT_NEAR(dy[2], 0.0f, 1e-30f);
    EXPECT_EQ(dy[3], 1.0f);
  }
}

TEST_P(ActivationKernel, TheOthersHaveTheirOwnLimits) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {-inf, inf, std::numeric_limits<float>::quiet_NaN()};
  const auto all = [&](Activation kind, std::vector<float> value, std::vector<float> slope) {
    const auto y = values(kind, x), dy = slopes(kind, x);
    for (const size_t i : {0, 1}) {
      EXPECT_EQ(y[i], value[i]);
      EXPECT_EQ(dy[i], slope[i]);
    }
    EXPECT_TRUE(std::isnan(y[2]));
  };
  all(Activation::sigmoid, {0, 1}, {0, 0});
  all(Activation::identity, {-inf, inf}, {1, 1});
  all(Activation::relu2, {0, inf}, {0, inf});
}

// Gated form over rows of a fused [rows, 2 * width] array, as the gate and up projections leave it.
TEST_P(ActivationKernel, GatedFormEqualsLoops) {
  for (const int64_t width : {1, 5, 16, 35, 64})
    for (const Activation kind : kAll) {
      const int64_t rows = 7;
      const auto gu = normal_values(rows * 2 * width, 3), dh = normal_values(rows * width, 4);
      std::vector<float> h(dh.size()), again(dh.size()), dgu(gu.size());
      const MatrixRows<const float> g{gu.data(), 2 * width}, u{gu.data() + width, 2 * width};
      activation_forward(kind, rows, width, g, u, {h.data(), width});
      activation_backward(kind, rows, width, g, u, {dh.data(), width}, {dgu.data(), 2 * width},
                          {dgu.data() + width, 2 * width}, {again.data(), width});
      EXPECT_EQ(h, again);
      std::vector<double> want_h, want_dgu(gu.size());
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t d = 0; d < width; ++d) {
          const float x = g.row(r)[d], up = u.row(r)[d], grad = dh[static_cast<size_t>(r * width + d)];
          want_h.push_back(static_cast<double>(exact(kind, x) * up));
          want_dgu[static_cast<size_t>(r * 2 * width + d)] = static_cast<double>(grad * exact_slope(kind, x) * up);
          want_dgu[static_cast<size_t>((r * 2 + 1) * width + d)] = static_cast<double>(grad * exact(kind, x));
        }
      expect_close(h, want_h, 4e-6, "h");
      expect_close(dgu, want_dgu, 1e-5, "dg and du");
    }
}

TEST_P(ActivationKernel, WorksInPlaceAndOnNothing) {
  auto x = normal_values(33, 8);
  const auto want = values(Activation::silu, x);
  activation_forward(Activation::silu, 3, 11, {x.data(), 11}, {}, {x.data(), 11});
  EXPECT_EQ(x, want);
  activation_forward(Activation::silu, 0, 11, {x.data(), 11}, {}, {x.data(), 11});
  activation_forward(Activation::silu, 3, 0, {x.data(), 11}, {}, {x.data(), 11});
  EXPECT_EQ(x, want);
}

}  // namespace
}  // namespace switchyard::kernels
