#include "kernels/rms_norm.h"

#include <omp.h>

#include "kernels/per_isa_test.h"

namespace switchyard::kernels {
namespace {

class RmsNorm : public PerIsa {};
INSTANTIATE_TEST_SUITE_P(Isa, RmsNorm, vector_isas(), isa_name);

struct Oracle {
  std::vector<double> y, r, dx, dweight;
};

Oracle by_loops(int64_t tokens, int64_t width, const std::vector<float>& x, const std::vector<float>& weight, double eps,
                const std::vector<float>& dy) {
  Oracle o;
  o.dweight.assign(static_cast<size_t>(width), 0.0);
  for (int64_t t = 0; t < tokens; ++t) {
    const auto at = [&](int64_t d) { return static_cast<size_t>(t * width + d); };
    double mean = 0.0, dot = 0.0;
    for (int64_t d = 0; d < width; ++d) {
      mean += double{x[at(d)]} * x[at(d)] / static_cast<double>(width);
      dot += double{x[at(d)]} * weight[static_cast<size_t>(d)] * dy[at(d)];
    }
    const double r = 1.0 / std::sqrt(mean + eps);
    o.r.push_back(r);
    for (int64_t d = 0; d < width; ++d) {
      const size_t i = static_cast<size_t>(d);
      o.y.push_back(weight[i] * x[at(d)] * r);
      o.dx.push_back(r * weight[i] * dy[at(d)] - x[at(d)] * r * r * r * dot / static_cast<double>(width));
      o.dweight[i] += dy[at(d)] * x[at(d)] * r;
    }
  }
  return o;
}

TEST_P(RmsNorm, EqualsLoopsForwardAndBackward) {
  for (const auto& [tokens, width] : {std::pair<int64_t, int64_t>{1, 1}, {3, 7}, {70, 33}, {129, 256}, {200, 129}, {0, 8}}) {
    SCOPED_TRACE(testing::Message() << "tokens=" << tokens << " width=" << width);
    const auto x = normal_values(tokens * width, 1), weight = normal_values(width, 2), dy = normal_values(tokens * width, 3);
    const Oracle want = by_loops(tokens, width, x, weight, 1e-5, dy);
    std::vector<float> y(x.size()), r(static_cast<size_t>(tokens)), dx(x.size()), dweight(static_cast<size_t>(width), 9.0f);
    rms_norm_forward(tokens, width, x.data(), weight.data(), 1e-5f, y.data(), r.data());
    rms_norm_backward(tokens, width, x.data(), weight.data(), r.data(), dy.data(), nullptr, dx.data(), dweight.data());
    expect_close(y, want.y, 2e-6, "y");
    expect_close(r, want.r, 2e-6, "inverse rms");
    expect_close(dx, want.dx, 4e-6, "dx");
    expect_close(dweight, want.dweight, 1e-6 * std::sqrt(tokens + 1.0), "dweight");
  }
}

TEST_P(RmsNorm, ResidualFormEqualsAdditionThenNorm) {
  const int64_t tokens = 19, width = 37;
  const auto x = normal_values(tokens * width, 1), other = normal_values(tokens * width, 2), weight = normal_values(width, 3);
  const auto dy = normal_values(tokens * width, 4), dsum = normal_values(tokens * width, 5);
  std::vector<float> sum(x.size()), added(x.size()), y(x.size()), y2(x.size()), r(19), r2(19);
  for (size_t i = 0; i < x.size(); ++i) added[i] = x[i] + other[i];
  add_rms_norm_forward(tokens, width, x.data(), other.data(), weight.data(), 1e-6f, sum.data(), y.data(), r.data());
  rms_norm_forward(tokens, width, added.data(), weight.data(), 1e-6f, y2.data(), r2.data());
  EXPECT_EQ(sum, added);
  EXPECT_EQ(y, y2);
  EXPECT_EQ(r, r2);

  std::vector<float> dx(x.size()), dx2(x.size()), dweight(37), dweight2(37);
  rms_norm_backward(tokens, width, sum.data(), weight.data(), r.data(), dy.data(), dsum.data(), dx.data(), dweight.data());
  rms_norm_backward(tokens, width, sum.data(), weight.data(), r.data(), dy.data(), nullptr, dx2.data(), dweight2.data());
  EXPECT_EQ(dweight, dweight2);
  for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(dx[i], dx2[i] + dsum[i], 1e-5f) << i;
}

TEST_P(RmsNorm, DoesNotDependOnTheNumberOfThreads) {
  const int64_t tokens = 300, width = 65;
  const auto x = normal_values(tokens * width, 1), weight = normal_values(width, 2), dy = normal_values(tokens * width, 3);
  std::vector<float> y(x.size()), r(300), dx(x.size()), dweight[2] = {std::vector<float>(65), std::vector<float>(65)};
  rms_norm_forward(tokens, width, x.data(), weight.data(), 1e-5f, y.data(), r.data());
  const int threads = omp_get_max_threads();
  for (const int n : {1, 3}) {
    omp_set_num_threads(n);
    rms_norm_backward(tokens, width, x.data(), weight.data(), r.data(), dy.data(), nullptr, dx.data(), dweight[n / 2].data());
  }
  omp_set_num_threads(threads);
  EXPECT_EQ(dweight[0], dweight[1]);
}

}  // namespace
}  // namespace switchyard::kernels
