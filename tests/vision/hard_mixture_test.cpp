// k-means, then independent heads (arXiv:1704.06363).
#include "vision/hard_mixture.h"

#include "expect_error.h"
#include "support/moe_oracle.h"
#include "vision/task.h"
#include "vision/training.h"

namespace switchyard::hard_mixture_test {  // its own: tests of a folder compile as one unit
namespace {

using namespace vision;

Whitening none(int64_t d) { return {torch::zeros({d}), torch::eye(d)}; }

TEST(HardMixture, ASampleBelongsToItsNearestCentroid) {
  const auto x = normal(RandomStream(1), {50, 3}), centroids = normal(RandomStream(2), {5, 3});
  const auto own = nearest(x, centroids);
  for (int64_t i = 0; i < 50; ++i) {
    int64_t best = 0;
    double least = 1e9;
    for (int64_t k = 0; k < 5; ++k) {
      const double d = (x[i] - centroids[k]).square().sum().item<double>();
      if (d < least) least = d, best = k;
    }
    EXPECT_EQ(own[i].item<int64_t>(), best);
  }
  EXPECT_EQ(nearest(torch::zeros({1, 2}), torch::tensor({{1.f, 0.f}, {0.f, 1.f}}))[0].item<int64_t>(), 0) << "equal distances: the lower";
}

TEST(HardMixture, KMeansFindsGroupsThatAreThereAndLeavesNoClusterEmpty) {
  auto x = 0.1 * normal(RandomStream(1), {60, 2});
  for (int64_t i = 0; i < 60; ++i) x[i] += torch::tensor({static_cast<float>(5 * (i % 3)), static_cast<float>(i % 3 == 1 ? 5 : 0)});
  const auto own = nearest(x, k_means(x, 3, RandomStream(4)));
  for (int64_t i = 0; i < 60; ++i) EXPECT_EQ(own[i].item<int64_t>(), own[i % 3].item<int64_t>());
  // Many equal samples: random starts coincide, and clusters without samples begin again elsewhere.
  auto twice = torch::zeros({20, 2});
  twice[19].fill_(1);
  EXPECT_EQ(at::bincount(nearest(twice, k_means(twice, 2, RandomStream(1))), {}, 2).min().item<int64_t>(), 1);
  testing::expect_error(ErrorKind::config, {"21 clusters", "20 samples"}, [&] { (void)k_means(twice, 21, RandomStream(1)); });
}

TEST(HardMixture, WhiteningGivesMeanZeroAndCovarianceOne) {
  const auto x = at::matmul(normal(RandomStream(1), {4000, 3}), normal(RandomStream(2), {3, 3})) + 5;
  const auto z = whitening_of(x, 1e-9).apply(x);
  EXPECT_LT(z.mean(0).abs().max().item<double>(), 1e-3);
  EXPECT_TRUE(testing::all_close(at::matmul(z.t(), z) / 4000, torch::eye(3), 1e-3));
}

TEST(HardMixture, TrainingOneExpertLeavesAllOthersBitForBit) {
  const auto x = normal(RandomStream(1), {80, 3});
  const auto labels = integers(RandomStream(3), 80, 2);
  HardMixture model(none(3), k_means(x, 4, RandomStream(2)), normal(RandomStream(5), {2, 3}), torch::zeros({2}));
  const auto before = model.named_parameters()["heads"].detach().clone();
  model.train_expert(2, x, labels, 5, 0.1);
  const auto after = model.named_parameters()["heads"];
  for (const int64_t k : {0, 1, 3}) EXPECT_TRUE(torch::equal(after[k], before[k])) << k;
  EXPECT_FALSE(torch::equal(after[2], before[2]));
}

TEST(HardMixture, OneClusterIsTheBaseHeadTunedFurther) {
  const auto x = normal(RandomStream(1), {80, 3}), head = normal(RandomStream(5), {2, 3});
  const auto labels = integers(RandomStream(3), 80, 2);
  HardMixture model(none(3), torch::zeros({1, 3}), head, torch::zeros({2}));
  model.train_expert(0, x, labels, 7, 0.1);
  auto w = head.clone().requires_grad_(), b = torch::zeros({2}).requires_grad_();
  for (int step = 0; step < 7; ++step) {  // gradient descent by hand
    const auto p = at::softmax(at::matmul(x, w.detach().t()) + b.detach(), 1) - at::one_hot(labels, 2);
    const torch::NoGradGuard no_grad;
    w -= 0.1 * at::matmul(p.t(), x) / 80;
    b -= 0.1 * p.mean(0);
  }
  EXPECT_TRUE(testing::all_close(model.forward(x), at::matmul(x, w.t()) + b, 1e-5));
}

TEST(HardMixture, HeadsPerClusterBeatOneHead) {
  const auto measures = task_registry().make(BlockSpec("hard_mixture", {{"experts", 8}}))->run({.seed = 1});
  EXPECT_GT(value_of(measures, "test_accuracy"), value_of(measures, "one_head_accuracy"));
}

}  // namespace
}  // namespace switchyard::hard_mixture_test
