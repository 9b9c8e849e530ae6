#include "steps/adamw.h"

#include "expect_error.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace switchyard {
namespace {

TrainedParameter random_parameter(const std::string& name, int64_t n, bool decays, uint64_t seed) {
  auto tensor = torch::empty({n});
  RandomStream(seed, name).fill_normal(tensor.data_ptr<float>(), n);
  return {name, tensor, decays};
}

// Oracle: the textbook loop in double.
struct TextbookAdamW {
  std::vector<double> w, m, v;
  void step(const std::vector<float>& g, double lr, double scale, double decay, int64_t t, const OptimizerOptions& o) {
    for (size_t i = 0; i < w.size(); ++i) {
      const double gradient = scale * static_cast<double>(g[i]);
      m[i] = o.beta1 * m[i] + (1 - o.beta1) * gradient;
      v[i] = o.beta2 * v[i] + (1 - o.beta2) * gradient * gradient;
      const double m_hat = m[i] / (1 - std::pow(o.beta1, static_cast<double>(t))), v_hat = v[i] / (1 - std::pow(o.beta2, static_cast<double>(t)));
      w[i] -= lr * (m_hat / (std::sqrt(v_hat) + o.eps) + decay * w[i]);
    }
  }
};

TEST(AdamWOptimizer, EqualsTheTextbookLoopInDoubleWithAndWithoutDecay) {
  constexpr int64_t kSize = 1003, kSteps = 40;
  const OptimizerOptions options{.weight_decay = 0.1};
  for (const bool decays : {true, false}) {
    const TrainedParameter p = random_parameter("w", kSize, decays, 1);
    TextbookAdamW oracle{std::vector<double>(p.tensor.data_ptr<float>(), p.tensor.data_ptr<float>() + kSize), std::vector<double>(kSize),
                         std::vector<double>(kSize)};
    AdamW optimizer({p}, options);
    for (int64_t t = 1; t <= kSteps; ++t) {
      std::vector<float> g(kSize);
      RandomStream(2).at("g", static_cast<uint64_t>(t)).fill_normal(g.data(), kSize);
      p.tensor.mutable_grad() = torch::tensor(g);
      const double lr = 1e-2 / static_cast<double>(t), scale = t % 3 == 0 ? 0.25 : 1.0;
      optimizer.step(lr, scale);
      oracle.step(g, lr, scale, decays ? options.weight_decay : 0, t, options);
    }
    // Every step moves a weight by at most lr * (a few roundings of its moments), and rounds the weight once.
    const double tolerance = kSteps * 8 * static_cast<double>(std::numeric_limits<float>::epsilon());
    for (int64_t i = 0; i < kSize; ++i) {
      const auto want = oracle.w[static_cast<size_t>(i)];
      EXPECT_NEAR(p.tensor[i].item<double>(), want, tolerance * (1 + std::abs(want))) << "element " << i << ", decays " << decays;
    }
  }
}

TEST(AdamWOptimizer, GoesOnExactlyAfterSaveAndLoad) {
  const TrainedParameter a = random_parameter("a", 37, true, 1), b = random_parameter("a", 37, true, 1);
  AdamW first({a}, {}), second({b}, {});
  const auto gradient = [](int64_t t) { return torch::sin(torch::arange(37, torch::kFloat32) * static_cast<double>(t)); };
  for (int64_t t = 1; t <= 5; ++t) {
    a.tensor.mutable_grad() = gradient(t);
    first.step(1e-2);
  }
  std::map<std::string, torch::Tensor> saved;
  first.save(saved);
  EXPECT_EQ(saved.size(), 2u);
  b.tensor.copy_(a.tensor);
  second.load(saved, 5);
  a.tensor.mutable_grad() = gradient(6);
  b.tensor.mutable_grad() = gradient(6);
  first.step(1e-2);
  second.step(1e-2);
  EXPECT_TRUE(torch::equal(a.tensor, b.tensor));
}

torch::Tensor sparse_rows(const std::vector<int64_t>& rows, const torch::Tensor& dense) {
  const auto index = torch::tensor(rows, torch::kInt64);
  return at::_sparse_coo_tensor_unsafe(index.unsqueeze(0), dense.index_select(0, index), dense.sizes())._coalesced_(true);
}

TEST(AdamWOptimizer, ASparseGradientOfAllRowsIsTheDenseOneBitForBit) {
  const OptimizerOptions options{.weight_decay = 0.1};
  const TrainedParameter a = {"w", torch::sin(torch::arange(24, torch::kFloat32)).view({4, 6}), true}, b = {"w", a.tensor.clone(), true};
  AdamW dense({a}, options), sparse({b}, options);
  for (int64_t t = 1; t <= 5; ++t) {
    const auto gradient = torch::cos(torch::arange(24, torch::kFloat32) * static_cast<double>(t)).view({4, 6});
    a.tensor.mutable_grad() = gradient;
    b.tensor.mutable_grad() = sparse_rows({0, 1, 2, 3}, gradient);
    EXPECT_EQ(gradient_norm({a}), gradient_norm({b}));
    dense.step(1e-2, 0.5);
    sparse.step(1e-2, 0.5);
  }
  EXPECT_TRUE(torch::equal(a.tensor, b.tensor));
}

// Row 1 has a gradient in the steps 2 and 4, row 3 in step 4, the others never.
TEST(AdamWOptimizer, RowsWithoutGradientKeepWeightsAndMomentsBitForBit) {
  const OptimizerOptions options{.weight_decay = 0.1};
  const TrainedParameter p = {"w", torch::sin(torch::arange(24, torch::kFloat32)).view({4, 6}), true};
  const auto before = p.tensor.clone();
  const auto gradient = torch::cos(torch::arange(24, torch::kFloat32)).view({4, 6});
  TextbookAdamW row{std::vector<double>(before.data_ptr<float>() + 6, before.data_ptr<float>() + 12), std::vector<double>(6), std::vector<double>(6)};
  AdamW optimizer({p}, options);
  for (int64_t t = 1; t <= 4; ++t) {
    const std::vector<int64_t> rows = t == 2 ? std::vector<int64_t>{1} : t == 4 ? std::vector<int64_t>{1, 3} : std::vector<int64_t>{};
    p.tensor.mutable_grad() = sparse_rows(rows, gradient);
    optimizer.step(1e-2);
    if (t % 2 == 0) row.step(std::vector<float>(gradient.data_ptr<float>() + 6, gradient.data_ptr<float>() + 12), 1e-2, 1, 0.1, t, options);
  }
  for (int64_t i = 0; i < 6; ++i) EXPECT_NEAR(p.tensor[1][i].item<double>(), row.w[static_cast<size_t>(i)], 1e-6);
  EXPECT_FALSE(torch::equal(p.tensor[3], before[3]));
  std::map<std::string, torch::Tensor> moments;
  optimizer.save(moments);
  for (const int64_t r : {0, 2}) {
    EXPECT_TRUE(torch::equal(p.tensor[r], before[r])) << r;
    EXPECT_EQ(moments.at("adamw.m.w")[r].abs().sum().item<float>() + moments.at("adamw.v.w")[r].abs().sum().item<float>(), 0) << r;
  }
}

TEST(AdamWOptimizer, LeavesParametersWithoutGradientAlone) {
  const TrainedParameter p = random_parameter("w", 5, true, 1);
  const auto before = p.tensor.clone();
  AdamW({p}, {}).step(0.1);
  EXPECT_TRUE(torch::equal(before, p.tensor));
}

TEST(AdamWOptimizer, RefusesMomentsThatAreMissingOrHaveAnotherShape) {
  AdamW optimizer({random_parameter("w", 5, true, 1)}, {});
  testing::expect_error(ErrorKind::checkpoint, {"adamw.m.w"}, [&] { optimizer.load({}, 1); });
  testing::expect_error(ErrorKind::checkpoint, {"adamw.m.w", "[4]", "[5]"},
                        [&] { optimizer.load({{"adamw.m.w", torch::zeros({4})}, {"adamw.v.w", torch::zeros({5})}}, 1); });
}

}  // namespace
}  // namespace switchyard
