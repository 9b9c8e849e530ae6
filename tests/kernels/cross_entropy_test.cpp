#include "kernels/cross_entropy.h"

#include <limits>

#include "kernels/per_isa_test.h"

namespace switchyard::kernels {
namespace {

class CrossEntropy : public PerIsa {};
INSTANTIATE_TEST_SUITE_P(Isa, CrossEntropy, vector_isas(), isa_name);

TEST_P(CrossEntropy, EqualsLoopsForwardAndBackward) {
  for (const auto& [tokens, vocab] : {std::pair<int64_t, int64_t>{1, 1}, {7, 5}, {11, 257}, {40, 1031}, {0, 9}})
    for (const bool weighted : {false, true}) {
      SCOPED_TRACE(testing::Message() << "tokens=" << tokens << " vocab=" << vocab << " weighted=" << weighted);
      auto logits = normal_values(tokens * vocab, 2);
      for (float& x : logits) x *= 5.0f;
      const auto weight = normal_values(tokens, 3);
      std::vector<int64_t> labels;
      for (int64_t t = 0; t < tokens; ++t) labels.push_back(t % 4 == 2 ? -100 : t * 37 % vocab);
      std::vector<double> want_loss, want_lse, want_grad;
      for (int64_t t = 0; t < tokens; ++t) {
        const float* row = logits.data() + t * vocab;
        const double w = weighted ? weight[static_cast<size_t>(t)] : 1.0;
        const int64_t label = labels[static_cast<size_t>(t)];
        double sum = 0.0;
        for (int64_t v = 0; v < vocab; ++v) sum += std::exp(double{row[v]});
        want_lse.push_back(std::log(sum));
        want_loss.push_back(label < 0 ? 0.0 : w * (std::log(sum) - row[label]));
        for (int64_t v = 0; v < vocab; ++v)
          want_grad.push_back(label < 0 ? 0.0 : 0.25 * w * (std::exp(double{row[v]}) / sum - (v == label)));
      }
      std::vector<float> loss(labels.size()), lse(labels.size());
      const float* w = weighted ? weight.data() : nullptr;
      cross_entropy_forward(tokens, vocab, {logits.data(), vocab}, labels.data(), w, loss.data(), lse.data());
      expect_close(loss, want_loss, 2e-6, "loss");
      expect_close(lse, want_lse, 2e-6, "lse");
      cross_entropy_backward(tokens, vocab, {logits.data(), vocab}, labels.data(), w, lse.data(), 0.25f, {logits.data(), vocab});
      expect_close(logits, want_grad, 2e-6, "dlogits");
    }
}

TEST_P(CrossEntropy, UniformLogitsCostLogV) {
  const std::vector<float> logits(300, 1000.0f);  // exp alone would overflow
  const int64_t label = 7;
  float loss = 0.0f, lse = 0.0f;
  cross_entropy_forward(1, 300, {logits.data(), 300}, &label, nullptr, &loss, &lse);
  EXPECT_NEAR(loss, std::log(300.0f), 1e-4f);
}

TEST_P(CrossEntropy, NaNAndInfinityReachTheLoss) {
  std::vector<float> logits(40, 0.0f);
  const int64_t label = 0;
  float loss = 0.0f, lse = 0.0f;
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    logits[33] = bad;
    cross_entropy_forward(1, 40, {logits.data(), 40}, &label, nullptr, &loss, &lse);
    EXPECT_FALSE(std::isfinite(loss));
  }
  logits[33] = -std::numeric_limits<float>::infinity();
  cross_entropy_forward(1, 40, {logits.data(), 40}, &label, nullptr, &loss, &lse);
  EXPECT_NEAR(loss, std::log(39.0f), 1e-6f);
}

TEST(Labels, TheFirstOneOutsideIsFound) {
  const std::vector<int64_t> labels = {0, -100, 4, 5, 9};
  EXPECT_EQ(first_label_outside(5, 10, labels.data()), -1);
  EXPECT_EQ(first_label_outside(5, 5, labels.data()), 3);
}

}  // namespace
}  // namespace switchyard::kernels
