#include "kernels/expert_attention.h"

#include <utility>

#include "kernels/per_isa_test.h"

namespace switchyard::kernels {
namespace {

class ExpertAttention : public PerIsa {};
INSTANTIATE_TEST_SUITE_P(Isa, ExpertAttention, vector_isas(), isa_name);

// Oracle: loops in float64 for one token.
void by_loops(size_t n, const float* qkv, const float* dz, double* z, double* dqkv) {
  const float *q = qkv, *k = qkv + n, *v = qkv + 2 * n;
  std::fill(dqkv, dqkv + 3 * n, 0.0);
  for (size_t i = 0; i < n; ++i) {
    std::vector<double> a(n);
    double largest = -1e300, sum = 0;
    for (size_t j = 0; j < n; ++j) largest = std::max(largest, double{q[i]} * k[j]);
    for (size_t j = 0; j < n; ++j) sum += a[j] = std::exp(double{q[i]} * k[j] - largest);
    z[i] = 0;
    for (size_t j = 0; j < n; ++j) z[i] += (a[j] /= sum) * v[j];
    for (size_t j = 0; j < n; ++j) {
      const double ds = a[j] * (v[j] - z[i]) * dz[i];
      dqkv[i] += ds * k[j];
      dqkv[n + j] += ds * q[i];
      dqkv[2 * n + j] += a[j] * dz[i];
    }
  }
}

TEST_P(ExpertAttention, EqualsLoopsForwardAndBackward) {
  for (const auto& [tokens, experts] : {std::pair<int64_t, int64_t>{1, 1}, {7, 3}, {40, 8}, {30, 64}, {5, 77}, {0, 4}})
    for (const float size : {1.0f, 20.0f}) {  // with 20 the attention is nearly one-hot
      SCOPED_TRACE(testing::Message() << "tokens=" << tokens << " experts=" << experts << " size=" << size);
      auto qkv = normal_values(tokens * 3 * experts, 5);
      for (float& x : qkv) x *= size;
      const auto dz = normal_values(tokens * experts, 6);
      std::vector<double> want_z(dz.size()), want_dqkv(qkv.size());
      const auto n = static_cast<size_t>(experts);
      for (size_t t = 0; t < static_cast<size_t>(tokens); ++t) by_loops(n, &qkv[t * 3 * n], &dz[t * n], &want_z[t * n], &want_dqkv[t * 3 * n]);
      std::vector<float> z(dz.size()), dqkv(qkv.size(), 9.0f);
      expert_attention_forward(tokens, experts, qkv.data(), z.data());
      expert_attention_backward(tokens, experts, qkv.data(), z.data(), dz.data(), dqkv.data());
      expect_close(z, want_z, 5e-6 * size * size, "z");
      expect_close(dqkv, want_dqkv, 1e-5 * size * size, "dqkv");
    }
}

}  // namespace
}  // namespace switchyard::kernels
