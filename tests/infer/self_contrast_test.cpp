// Self-contrast: the formula on a worked example, and what must not change.
#include "infer/self_contrast.h"

#include "expect_error.h"
#include "infer/generate.h"
#include "models/small_specs.h"

#include <gtest/gtest.h>

#include <cmath>

namespace switchyard::self_contrast_test {  // its own: tests of a folder compile as one unit
namespace {

ModelSpec spec() {
  ModelSpec s = testing::mixtral_like_spec();
  s.max_positions = 64;
  return s;
}

GenerateOptions greedy() {
  GenerateOptions o;
  o.max_tokens = 30;
  o.sampling.temperature = 0;
  o.ignore_eos = true;
  return o;
}

TEST(SelfContrast, ReproducesTheWorkedExample) {
  const float strong[] = {2.0f, 1.5f, -3.0f}, weak[] = {1.8f, 0.2f, -6.0f};
  const auto z = contrast(strong, weak, 0.5, 0.1);
  EXPECT_NEAR(z[0], 2.1, 1e-6);
  EXPECT_NEAR(z[1], 2.15, 1e-6);
  EXPECT_EQ(z[2], -std::numeric_limits<float>::infinity());
}

TEST(SelfContrast, WithoutBetaOnlyTheMaskIsLeftAndEqualPassesKeepTheOrder) {
  const float strong[] = {1.0f, 0.9f, -1.0f, -2.0f}, weak[] = {9.0f, -9.0f, 9.0f, 0.0f};
  const auto masked = contrast(strong, weak, 0, 0.1);  // cutoff 1 + ln 0.1 = -1.30
  EXPECT_EQ(masked[0], 1.0f);
  EXPECT_EQ(masked[2], -1.0f);
  EXPECT_TRUE(std::isinf(masked[3]));
  const auto same = contrast(strong, strong, 0.7, 0.1);
  for (size_t i = 0; i < 3; ++i) EXPECT_FLOAT_EQ(same[i], strong[i]);
}

TEST(SelfContrast, TheWeakModelSharesWeightsAndRoutesByRank) {
  LanguageModel model(spec(), 3);
  const auto weak = with_ranks(model, {2});
  EXPECT_EQ(weak->named_parameters()["embed"].data_ptr(), model.named_parameters()["embed"].data_ptr());
  const TokenBatch batch{.input_ids = torch::arange(12, torch::kInt64).view({1, 12}), .positions = {}, .segments = {}};
  ModelTrace strong_trace, weak_trace;
  model.eval();
  (void)model.forward(batch, {.trace = &strong_trace});
  (void)weak->forward(batch, {.trace = &weak_trace});
  // In the first layer both see the same hidden states: the weak pass takes the second of the strong choices, with weight 1.
  const auto& strong = std::get<TokenChoice>(strong_trace.moe.at(0).routing.choice);
  const auto& second = std::get<TokenChoice>(weak_trace.moe.at(0).routing.choice);
  EXPECT_TRUE(torch::equal(second.expert_ids, strong.expert_ids.slice(1, 1, 2)));
  EXPECT_TRUE(torch::allclose(second.weights, torch::ones_like(second.weights)));
}

TEST(SelfContrast, RanksOfTheTrainedRoutingGiveTheModelItself) {
  LanguageModel model(spec(), 3);
  const auto plain = generate(model, nullptr, std::vector<int32_t>{4, 1}, greedy());
  auto options = greedy();
  options.contrast = {.beta = 0.5, .alpha = 0.1, .ranks = {1, 2}};  // the same routing twice
  EXPECT_EQ(generate(model, nullptr, std::vector<int32_t>{4, 1}, options).ids, plain.ids);
  options.contrast = {.beta = 8, .alpha = 1e-6, .ranks = {4}};
  EXPECT_NE(generate(model, nullptr, std::vector<int32_t>{4, 1}, options).ids, plain.ids);
}

// Oracle: both passes over the whole sequence again for every token, without a cache.
TEST(SelfContrast, TwoCachesGiveWhatTwoFullForwardsGive) {
  LanguageModel model(spec(), 5);
  auto options = greedy();
  options.max_tokens = 12;
  options.contrast = {.beta = 0.5, .alpha = 0.1, .ranks = {2}};
  const auto got = generate(model, nullptr, std::vector<int32_t>{4, 1}, options).ids;
  const auto weak = with_ranks(model, {2});
  model.eval();
  const torch::NoGradGuard no_grad;
  std::vector<int64_t> ids = {4, 1};
  for (const int32_t id : got) {
    const TokenBatch batch{.input_ids = torch::tensor(ids, torch::kInt64).view({1, -1}), .positions = {}, .segments = {}};
    const auto last = [&](LanguageModel& m) { return m.logits(m.forward(batch).hidden.slice(1, -1)).view({-1}).contiguous(); };
    const auto strong = last(model), other = last(*weak);
    const auto z = contrast({strong.data_ptr<float>(), static_cast<size_t>(strong.numel())}, {other.data_ptr<float>(), static_cast<size_t>(other.numel())}, 0.5, 0.1);
    EXPECT_EQ(std::max_element(z.begin(), z.end()) - z.begin(), id);
    ids.push_back(id);
  }
}

// The gate that a layer of a pattern has for itself is weakened, too.
TEST(SelfContrast, ReachesTheGatesOfSingleLayers) {
  ModelSpec s = spec();
  s.moe->every = 1;
  s.moe->offset = 0;
  LayerSpec usual, own;
  usual.kind = own.kind = "attention+moe";
  own.moe = {{"gate", {{"kind", "top_k"}, {"k", 3}}}};
  s.num_layers = 2;
  s.pattern = {usual, own};
  LanguageModel model(s, 3);
  const auto weak = with_ranks(model, {2});
  for (const auto& [layer, moe] : weak->moe_layers()) EXPECT_EQ(moe->gate().experts_per_token(), 1) << layer;
}

TEST(SelfContrast, RefusesWhatHasNoRanks) {
  LanguageModel dense(testing::llama_like_spec(), 3);
  testing::expect_error(ErrorKind::unsupported, {"dense"}, [&] { (void)with_ranks(dense, {2}); });
  ModelSpec s = spec();
  s.moe->gate = "dense";
  LanguageModel all(s, 3);
  testing::expect_error(ErrorKind::unsupported, {"gate 'dense'"}, [&] { (void)with_ranks(all, {2}); });
  LanguageModel model(spec(), 3);
  testing::expect_error(ErrorKind::config, {"ranks", "9", "num_experts = 4"}, [&] { (void)with_ranks(model, {9}); });
  auto options = greedy();
  options.contrast.beta = -1;
  testing::expect_error(ErrorKind::usage, {"beta = -1"}, [&] { (void)generate(model, nullptr, std::vector<int32_t>{4}, options); });
}

}  // namespace
}  // namespace switchyard::self_contrast_test
