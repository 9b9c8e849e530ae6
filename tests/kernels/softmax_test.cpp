#include "kernels/softmax.h"

#include <limits>

#include "kernels/per_isa_test.h"

namespace switchyard::kernels {
namespace {

class Softmax : public PerIsa {};
INSTANTIATE_TEST_SUITE_P(Isa, Softmax, vector_isas(), isa_name);

TEST_P(Softmax, EqualsLoopsForwardAndBackward) {
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 1}, {9, 5}, {300, 64}, {31, 131}, {0, 8}}) {
    SCOPED_TRACE(testing::Message() << "rows=" << rows << " width=" << width);
    auto x = normal_values(rows * width, 2);
    const auto dp = normal_values(rows * width, 3), dlse = normal_values(rows, 4);
    std::vector<double> want_p, want_lse, want_dx;
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0.0, dot = 0.0;
      const auto at = [&](int64_t i) { return static_cast<size_t>(r * width + i); };
      for (int64_t i = 0; i < width; ++i) sum += std::exp(double{x[at(i)]});
      for (int64_t i = 0; i < width; ++i) dot += std::exp(double{x[at(i)]}) / sum * dp[at(i)];
      want_lse.push_back(std::log(sum));
      for (int64_t i = 0; i < width; ++i) {
        want_p.push_back(std::exp(double{x[at(i)]}) / sum);
        want_dx.push_back(want_p.back() * (dp[at(i)] - dot + dlse[static_cast<size_t>(r)]));
      }
    }
    std::vector<float> p(x.size()), lse(static_cast<size_t>(rows)), dx(x.size());
    softmax_rows(rows, width, {x.data(), width}, {p.data(), width}, lse.data());
    softmax_rows_backward(rows, width, {p.data(), width}, {dp.data(), width}, dlse.data(), {dx.data(), width});
    expect_close(p, want_p, 1e-6, "p");
    expect_close(lse, want_lse, 1e-6, "lse");
    expect_close(dx, want_dx, 2e-6, "dx");
    softmax_rows(rows, width, {x.data(), width}, {x.data(), width}, nullptr);
    EXPECT_EQ(x, p);
  }
}

TEST_P(Softmax, MaskedEntriesGetNothing) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  std::vector<float> x(40, -inf), p(40, 7.0f);
  float lse = 0.0f;
  softmax_rows(1, 40, {x.data(), 40}, {p.data(), 40}, &lse);
  EXPECT_EQ(lse, -inf);
  EXPECT_EQ(p, std::vector<float>(40, 0.0f));
  x[3] = x[35] = 500.0f;
  softmax_rows(1, 40, {x.data(), 40}, {p.data(), 40}, &lse);
  for (size_t i = 0; i < 40; ++i) EXPECT_NEAR(p[i], i == 3 || i == 35 ? 0.5f : 0.0f, 4e-5f);
  x[0] = std::numeric_limits<float>::quiet_NaN();
  softmax_rows(1, 40, {x.data(), 40}, {p.data(), 40}, &lse);
  EXPECT_TRUE(std::isnan(p[3]));
}

}  // namespace
}  // namespace switchyard::kernels
