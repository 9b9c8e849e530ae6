// Channels of convolutions as experts: gated one by one (arXiv:1806.01531), in blocks per sample (arXiv:2308.10110).
#include "vision/channel_bank.h"

#include "expect_error.h"
#include "support/moe_oracle.h"
#include "vision/images.h"
#include "vision/task.h"
#include "vision/training.h"

namespace switchyard::channel_bank_test {  // its own: tests of a folder compile as one unit
namespace {

using namespace vision;
using testing::all_close;

// Running statistics and factors as after some training.
template <class Model>
void fill_norms(Model& model) {
  const torch::NoGradGuard no_grad;
  for (auto& item : model.named_parameters())
    if (item.key().find("norm") != std::string::npos) item.value().add_(normal(RandomStream(5, item.key()), item.value().sizes().vec(), 0.3));
  for (auto& item : model.named_buffers())
    if (item.key().ends_with("var")) item.value().copy_(uniform(RandomStream(6, item.key()), item.value().sizes().vec(), 0.3, 1.5));
    else item.value().copy_(normal(RandomStream(6, item.key()), item.value().sizes().vec(), 0.1));
}

GatedCnn::Options gated() { return {.sizes = {.channels = {4, 6, 5}, .classes = 3, .size = 8}, .embedding = 5}; }

// Gates of which about half are zero.
std::shared_ptr<GatedCnn> sparse_model() {
  auto model = std::make_shared<GatedCnn>(gated(), 1);
  const torch::NoGradGuard no_grad;
  auto p = model->named_parameters();
  for (const char* head : {"head0", "head1", "head2"}) p[head].copy_(normal(RandomStream(8, head), p[head].sizes().vec(), 1));
  fill_norms(*model);
  model->eval();
  return model;
}

TEST(DeepMoe, SkippedChannelsAreChannelsTimesZero) {
  const auto model = sparse_model();
  model->to(torch::kFloat64);
  const torch::NoGradGuard no_grad;
  const auto x = uniform(RandomStream(2), {9, 1, 8, 8}).to(torch::kFloat64);
  const auto out = model->forward(x);
  double zeros = 0, all = 0;
  for (const auto& gate : out.gates) zeros += (gate == 0).sum().item<double>(), all += static_cast<double>(gate.numel());
  EXPECT_GT(zeros / all, 0.2);
  EXPECT_LT(zeros / all, 0.8);
  EXPECT_TRUE(all_close(model->forward_skipping(x), out.logits, 1e-13));
  {  // layers of which nothing is left
    auto p = model->named_parameters();
    for (const char* head : {"head0", "head2"}) p[head].fill_(-1);
    EXPECT_TRUE(all_close(model->forward_skipping(x), model->forward(x).logits, 1e-13));
    p["head2"].fill_(1);  // the last one sees no channel, and has its offsets
    EXPECT_TRUE(all_close(model->forward_skipping(x), model->forward(x).logits, 1e-13));
    EXPECT_GT(model->forward(x).logits.abs().max().item<double>(), 0);
  }
}

// From sums over samples and places; afterwards the running ones have moved a tenth of the way.
TEST(BatchNorm, IsTheDefinition) {
  const torch::NoGradGuard no_grad;
  BatchNorm norm(2);
  fill_norms(norm);
  const auto x = normal(RandomStream(1), {3, 2, 4, 4}, 2);
  auto p = norm.named_parameters(), b = norm.named_buffers();
  const auto mean_before = b["running_mean"].clone(), var_before = b["running_var"].clone();
  const auto outside = [&](const torch::Tensor& mean, const torch::Tensor& var, int64_t c) {
    return (x.select(1, c) - mean[c]) / at::sqrt(var[c] + 1e-5) * p["weight"][c] + p["bias"][c];
  };
  norm.eval();
  for (int64_t c = 0; c < 2; ++c) EXPECT_TRUE(all_close(norm.forward(x).select(1, c), outside(mean_before, var_before, c), 1e-5));
  EXPECT_TRUE(torch::equal(b["running_mean"], mean_before));
  EXPECT_TRUE(all_close(norm.forward_live(x.slice(1, 1, 2), torch::tensor({1})), norm.forward(x).slice(1, 1, 2), 1e-6));
  norm.train();
  const auto mean = x.mean(at::IntArrayRef{0, 2, 3}), var = x.var(at::IntArrayRef{0, 2, 3}, /*unbiased=*/false);
  const auto y = norm.forward(x);
  for (int64_t c = 0; c < 2; ++c) EXPECT_TRUE(all_close(y.select(1, c), outside(mean, var, c), 1e-5));
  EXPECT_TRUE(all_close(b["running_mean"], 0.9 * mean_before + 0.1 * mean, 1e-6));
  EXPECT_TRUE(all_close(b["running_var"], 0.9 * var_before + 0.1 * x.var(at::IntArrayRef{0, 2, 3}, /*unbiased=*/true), 1e-5));
}

TEST(DeepMoe, WithAllGatesOneItIsTheBaseNetwork) {
  auto o = gated();
  o.gated = false;
  GatedCnn model(o, 1);
  model.eval();
  const torch::NoGradGuard no_grad;
  const auto x = uniform(RandomStream(2), {4, 1, 8, 8});
  EXPECT_TRUE(torch::equal(model.forward(x).logits, model.forward_ungated(x)));
}

TEST(DeepMoe, CountsTheProductsOfLiveChannels) {
  const auto model = sparse_model();
  const torch::NoGradGuard no_grad;
  const auto gates = model->forward(uniform(RandomStream(2), {9, 1, 8, 8})).gates;
  double want = 0;
  for (int64_t b = 0; b < 9; ++b) {
    double before = 1;
    for (size_t l = 0; l < 3; ++l) {
      const double now = (gates[l][b] != 0).sum().item<double>(), side = 8 >> l;
      want += 18 * side * side * now * before / 9;
      before = now;
    }
  }
  EXPECT_NEAR(model->flops(gates), want, 1e-6 * want);
  EXPECT_EQ(model->flops_of_all(), 18.0 * (64 * 4 + 16 * 4 * 6 + 4 * 6 * 5));
}

TEST(DeepMoe, GradientsMatchFiniteDifferencesInFloat64) {
  const auto model = sparse_model();
  model->to(torch::kFloat64);
  const auto x = uniform(RandomStream(2), {4, 1, 8, 8}).to(torch::kFloat64);
  const auto loss = [&] {
    const auto out = model->forward(x);
    return out.logits.square().sum() + out.embedding_logits.square().sum() + 0.1 * out.gates[1].sum();
  };
  for (const bool training : {false, true}) {
    model->train(training);
    for (auto& item : model->named_parameters()) EXPECT_LT(testing::finite_difference_gap(loss, item.value(), 8), 1e-4) << item.key() << training;
  }
}

TEST(DeepMoe, AHigherPriceLeavesFewerChannels) {
  double before = 2;
  for (const double lambda : {0.0, 0.01, 0.1}) {
    const auto measures = task_registry().make(BlockSpec("deepmoe", {{"lambda", lambda}, {"steps", 80}, {"train_samples", 200}, {"test_samples", 200}, {"tuning_steps", 20}}))->run({.seed = 1});
    const double active = value_of(measures, "active_channels");
    EXPECT_LT(active, before + 1e-9) << lambda;
    before = active;
  }
  EXPECT_LT(before, 0.7);
}

BlockedCnn::Options blocked(int64_t experts = 3) { return {.sizes = {.channels = {4, 6}, .classes = 3, .size = 8}, .experts = experts}; }

TEST(AdvMoe, ARouterForcedToOneExpertGivesThatPathway) {
  BlockedCnn model(blocked(), 1);
  fill_norms(model);
  model.eval();
  const torch::NoGradGuard no_grad;
  const auto x = uniform(RandomStream(2), {5, 1, 8, 8});
  for (int64_t e = 0; e < 3; ++e) {
    auto scores = torch::zeros({5, 3});
    scores.select(1, e).fill_(1);
    EXPECT_TRUE(all_close(model.forward(x, scores), model.pathway(e, x), 1e-6)) << e;
  }
}

// The gradient that reaches the scores is the one that a mask of ones and zeros would get.
TEST(AdvMoe, GradientsPassStraightThroughTheChoice) {
  BlockedCnn model(blocked(), 1);
  fill_norms(model);
  model.eval();
  model.to(torch::kFloat64);
  const auto x = uniform(RandomStream(2), {5, 1, 8, 8}).to(torch::kFloat64);
  const auto scores = normal(RandomStream(3), {5, 3}).to(torch::kFloat64).requires_grad_();
  model.forward(x, scores).square().sum().backward();
  // A one-hot mask as scores: it is its own best choice, so that moving it by differences moves the mask itself.
  auto mask = torch::zeros({5, 3}, torch::kFloat64).scatter_(1, scores.detach().argmax(1, true), 1).requires_grad_();
  model.forward(x, mask).square().sum().backward();
  EXPECT_TRUE(all_close(scores.grad(), mask.grad(), 1e-12));
  EXPECT_GT(scores.grad().abs().min().item<double>(), 0) << "blocks that were not chosen are heard of as well";
}

TEST(AdvMoe, AttacksStayWithinTheirBoundsAndRaiseTheLoss) {
  BlockedCnn model(blocked(), 1);
  model.eval();
  const auto x = uniform(RandomStream(2), {20, 1, 8, 8});
  const auto labels = integers(RandomStream(3), 20, 3);
  const auto loss = [&](const torch::Tensor& z) { return cross_entropy(model.forward(z), labels); };
  const auto adversary = attacked(x, {.epsilon = 0.1, .step = 0.05, .steps = 5}, RandomStream(4), loss);
  EXPECT_LE((adversary - x).abs().max().item<double>(), 0.1 + 1e-6);
  EXPECT_GE(adversary.min().item<double>(), 0);
  EXPECT_LE(adversary.max().item<double>(), 1);
  EXPECT_GT(loss(adversary).item<double>(), loss(x).item<double>());
  for (const auto& p : model.parameters()) EXPECT_FALSE(p.grad().defined()) << "an attack leaves no gradient";
}

TEST(AdvMoe, BackboneAndRouterHaveParametersOfTheirOwn) {
  const BlockedCnn model(blocked(), 1);
  EXPECT_EQ(model.backbone_parameters().size() + model.router_parameters().size(), model.parameters().size());
  for (const auto& a : model.backbone_parameters())
    for (const auto& b : model.router_parameters()) EXPECT_FALSE(a.is_same(b));
}

// By turns, the task moves both; that it does so alike for one seed.
TEST(AdvMoe, TheTaskIsAFunctionOfItsSeed) {
  const auto attacked_accuracy = [] {
    const BlockSpec task("advmoe", {{"experts", 2}, {"steps", 4}, {"train_samples", 50}, {"test_samples", 50}});
    return value_of(task_registry().make(task)->run({.seed = 1}), "attacked_accuracy");
  };
  EXPECT_EQ(attacked_accuracy(), attacked_accuracy());
}

TEST(Divergence, IsTheDefinition) {
  const auto p = torch::tensor({{1.0, 0.0, -1.0}}), q = torch::tensor({{0.0, 0.5, 0.0}});
  double want = 0;
  const auto a = at::softmax(p, 1)[0], b = at::softmax(q, 1)[0];
  for (int64_t i = 0; i < 3; ++i) want += a[i].item<double>() * std::log(a[i].item<double>() / b[i].item<double>());
  EXPECT_NEAR(divergence(p, q).item<double>(), want, 1e-6);
  EXPECT_NEAR(divergence(p, p).item<double>(), 0, 1e-7);
}

}  // namespace
}  // namespace switchyard::channel_bank_test
