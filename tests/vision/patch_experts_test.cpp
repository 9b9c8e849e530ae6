// Experts that keep their best patches (pMoE, arXiv:2306.04073).
#include "vision/patch_experts.h"

#include "expect_error.h"
#include "support/moe_oracle.h"
#include "vision/patches.h"
#include "vision/task.h"
#include "vision/training.h"

#include <algorithm>
#include <numeric>

namespace switchyard::patch_experts_test {  // its own: tests of a folder compile as one unit
namespace {

using namespace vision;
using testing::all_close;

PatchExperts::Options small(int64_t keep) { return {.experts = 3, .filters = 4, .keep = keep, .filter_std = 0.5, .gate_std = 0.5}; }

// Oracle: one sample, expert and patch at a time.
torch::Tensor by_loops(PatchExperts& model, const torch::Tensor& x, int64_t keep, bool softmax_first) {
  std::vector<torch::Tensor> out;
  for (int64_t b = 0; b < x.size(0); ++b) {
    auto sum = torch::zeros({}, x.options());
    for (int64_t s = 0; s < 3; ++s) {
      const auto g = at::mv(x[b], model.gates()[s]);
      std::vector<int64_t> order(static_cast<size_t>(x.size(1)));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) { return g[i].item<double>() > g[j].item<double>(); });
      order.resize(static_cast<size_t>(keep));
      const auto all = at::softmax(g, 0);
      auto total = torch::zeros({}, x.options());
      for (const int64_t j : order) total = total + at::exp(g[j]);
      for (const int64_t j : order)
        for (int64_t r = 0; r < 4; ++r)
          sum = sum + (r % 2 == 0 ? 1 : -1) * at::relu(at::dot(model.filters()[s][r], x[b][j])) * (softmax_first ? all[j] : at::exp(g[j]) / total) / static_cast<double>(keep);
    }
    out.push_back(sum);
  }
  return at::stack(out);
}

TEST(PatchExperts, EqualsLoopsInBothOrders) {
  for (const bool softmax_first : {false, true})
    for (const int64_t keep : {1, 3, 8}) {
      auto o = small(keep);
      o.softmax_first = softmax_first;
      PatchExperts model(o, 8, 5, 1);
      const torch::NoGradGuard no_grad;
      const auto x = normal(RandomStream(2), {6, 8, 5});
      EXPECT_TRUE(all_close(model.forward(x), by_loops(model, x, keep, softmax_first), 1e-5));
    }
}

TEST(PatchExperts, KeepingAllIsACnnOverSoftmaxWeightedPatchesInBothOrders) {
  auto first = small(8), second = small(8);
  second.softmax_first = true;
  PatchExperts a(first, 8, 5, 1), b(second, 8, 5, 1);
  const torch::NoGradGuard no_grad;
  const auto x = normal(RandomStream(2), {6, 8, 5});
  EXPECT_TRUE(all_close(a.forward(x), b.forward(x), 1e-6));
}

TEST(PatchExperts, EachExpertSeesExactlySoManyPatchesAndTheirOrderDoesNotMatter) {
  PatchExperts model(small(3), 8, 5, 1);
  const torch::NoGradGuard no_grad;
  const auto x = normal(RandomStream(2), {6, 8, 5});
  const auto routing = model.route(x);
  EXPECT_EQ(routing.kept.sizes(), (std::vector<int64_t>{6, 3, 3}));
  EXPECT_TRUE(all_close(routing.weights.sum(2), torch::ones({6, 3}), 1e-6));
  const auto order = torch::tensor({3, 0, 7, 5, 1, 2, 6, 4}, torch::kInt64);
  EXPECT_TRUE(all_close(model.forward(x.index_select(1, order)), model.forward(x), 1e-6));
  EXPECT_EQ(model.flops_per_sample() / PatchExperts(small(6), 8, 5, 1).flops_per_sample(), 0.5);
}

TEST(PatchExperts, GradientsMatchFiniteDifferencesInFloat64) {
  PatchExperts model(small(3), 8, 5, 1);
  model.to(torch::kFloat64);
  const auto x = normal(RandomStream(2), {6, 8, 5}).to(torch::kFloat64);
  const auto loss = [&] { return model.forward(x).square().sum(); };
  for (auto& p : model.parameters()) EXPECT_LT(testing::finite_difference_gap(loss, p), 1e-5);
}

TEST(PatchExperts, GatesTrainedFromLabelsPointAtTheTellingPatterns) {
  const OnePatch data(1);
  const auto train = data.draw("train", 2000);
  PatchExperts model({.experts = 2, .keep = 1}, data.patches(), data.width(), 1);
  model.train_gates(train.x, train.labels, 100);
  const auto kept = model.route(train.x).kept;
  for (const int64_t label : {0, 1}) {
    const auto mine = (train.labels == label).nonzero().view({-1});
    const auto expert = label == 1 ? 0 : 1;
    const auto right = (kept.select(1, expert).select(1, 0) == train.cluster).index_select(0, mine).to(torch::kFloat64).mean().item<double>();
    EXPECT_GT(right, 0.9) << "label " << label;
  }
}

double accuracy_of(ConfigNode options) { return value_of(task_registry().make(BlockSpec("pmoe", options))->run({.seed = 1}), "test_accuracy"); }

TEST(PatchExperts, NeedFewerSamplesThanACnnThatSeesAllPatches) {
  const double routed = accuracy_of({{"train_samples", 100}, {"training", "separate"}}), all = accuracy_of({{"train_samples", 100}, {"routed", false}});
  EXPECT_GT(routed, 0.95);
  EXPECT_GT(routed, all);
}

TEST(PatchExperts, WhatMakesNoSenseIsRefused) {
  testing::expect_error(ErrorKind::config, {"keep = 9", "8 patches"}, [] { PatchExperts model(small(9), 8, 5, 1); });
  testing::expect_error(ErrorKind::config, {"training = 'both'"}, [] { (void)task_registry().make(BlockSpec("pmoe", {{"training", "both"}})); });
}

}  // namespace
}  // namespace switchyard::patch_experts_test
