#include "kernels/adamw.h"

#include <omp.h>

#include <limits>

#include "kernels/per_isa_test.h"

namespace switchyard::kernels {
namespace {

class AdamWKernel : public PerIsa {};
INSTANTIATE_TEST_SUITE_P(Isa, AdamWKernel, vector_isas(), isa_name);

TEST_P(AdamWKernel, EqualsLoopsOverSeveralSteps) {
  for (const int64_t n : {0, 1, 15, 1000, 40001}) {
    auto param = normal_values(n, 1);
    std::vector<float> m(param.size()), v(param.size());
    std::vector<double> want(param.begin(), param.end()), want_m(m.size()), want_v(m.size());
    AdamW options{.learning_rate = 0.01f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-6f, .weight_decay = 0.1f, .grad_scale = 0.5f};
    for (options.step = 1; options.step <= 5; ++options.step) {
      const auto grad = normal_values(n, static_cast<uint32_t>(options.step + 10));
      adamw_step(options, n, grad.data(), param.data(), m.data(), v.data());
      const double b1 = options.beta1, b2 = options.beta2, t = static_cast<double>(options.step);
      for (size_t i = 0; i < want.size(); ++i) {
        const double g = 0.5 * grad[i];
        want_m[i] = b1 * want_m[i] + (1 - b1) * g;
        want_v[i] = b2 * want_v[i] + (1 - b2) * g * g;
        const double root = std::sqrt(want_v[i] / (1 - std::pow(b2, t))) + double{options.eps};
        want[i] -= double{options.learning_rate} * (double{options.weight_decay} * want[i] + want_m[i] / (1 - std::pow(b1, t)) / root);
      }
    }
    expect_close(param, want, 1e-6, "param");
    expect_close(m, want_m, 1e-6, "m");
    expect_close(v, want_v, 1e-6, "v");
  }
}

// With zero moments the first step is lr * sign(g) for every scale of the gradient.
TEST_P(AdamWKernel, FirstStepHasTheLengthOfTheLearningRate) {
  std::vector<float> param(4, 1.0f), m(4), v(4);
  const std::vector<float> grad = {1e-3f, -1e-3f, 1e3f, -2.0f};
  adamw_step({.learning_rate = 0.125f, .eps = 0.0f}, 4, grad.data(), param.data(), m.data(), v.data());
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(param[i], grad[i] > 0 ? 0.875f : 1.125f, 1e-6f);
}

TEST_P(AdamWKernel, SumOfSquaresIsExactToDoubleAndRepeatsForEveryThreadCount) {
  const int threads = omp_get_max_threads();
  for (const int64_t n : {0, 1, 33, 16384, 100003}) {
    const auto x = normal_values(n, 4);
    double want = 0.0;
    for (const float value : x) want += double{value} * value;
    omp_set_num_threads(1);
    const double one = sum_of_squares(n, x.data());
    omp_set_num_threads(3);
    EXPECT_EQ(sum_of_squares(n, x.data()), one);
    EXPECT_NEAR(one, want, 1e-12 * want);
  }
  omp_set_num_threads(threads);
}

TEST_P(AdamWKernel, FindsTheFirstValueThatIsNotFinite) {
  auto x = normal_values(50021, 4);
  x[0] = std::numeric_limits<float>::max(), x[1] = -0.0f, x[2] = std::numeric_limits<float>::denorm_min();
  const int64_t n = static_cast<int64_t>(x.size());
  EXPECT_EQ(first_non_finite(n, x.data()), -1);
  x[50020] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(first_non_finite(n, x.data()), 50020);
  x[40000] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(first_non_finite(n, x.data()), 40000);
  x[17] = -std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(first_non_finite(n, x.data()), 17);
  EXPECT_EQ(first_non_finite(17, x.data()), -1);
  EXPECT_EQ(first_non_finite(0, x.data()), -1);
}

}  // namespace
}  // namespace switchyard::kernels
