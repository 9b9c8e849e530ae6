// Balance by state, and choices that are not sent after all.
#include "expect_error.h"
#include "support/gate_fixture.h"

namespace switchyard::balance_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::choose;
using testing::expect_error;
using testing::fixture_logits;
using testing::gate_on_logits;
using testing::input_of;
using testing::normal;
using testing::stats_of;

// Bias -------------------------------------------------------------------------------------------------------------------

std::shared_ptr<Gate> biased(double gamma, ConfigNode::Table more = {}) {
  more.emplace_back("kind", "bias");
  more.emplace_back("gamma", gamma);
  return gate_on_logits({{"normalise", "sigmoid"}, {"balance", ConfigNode(more)}, {"select", {{"kind", "top_k"}, {"k", 1}}}, {"weigh", "raw"}});
}

TEST(BiasBalance, ReproducesTheWorkedExample) {
  auto gate = biased(0.05);
  const std::vector<std::vector<float>> loads = {{3, 1, 1, 1}, {2, 2, 1, 1}, {2, 2, 1, 1}, {1, 2, 2, 1}, {3, 1, 0, 2}};
  for (const auto& want : loads) {
    const auto stats = stats_of(*gate, input_of(fixture_logits(), true), 4);
    EXPECT_TRUE(torch::equal(stats.counts, torch::tensor(want)));
    gate->update(stats);
  }
}

TEST(BiasBalance, MovesTheChoiceAndNeverTheWeight) {
  auto gate = biased(0.1);
  const auto before = gate->route(input_of(fixture_logits()));
  {
    torch::NoGradGuard no_grad;
    gate->named_buffers()["balance.bias"].fill_(5);
  }
  const auto shifted = gate->route(input_of(fixture_logits()));
  EXPECT_TRUE(torch::equal(std::get<TokenChoice>(shifted.choice).expert_ids, std::get<TokenChoice>(before.choice).expert_ids));
  EXPECT_TRUE(torch::equal(std::get<TokenChoice>(shifted.choice).weights, std::get<TokenChoice>(before.choice).weights));
  {
    torch::NoGradGuard no_grad;
    gate->named_buffers()["balance.bias"].copy_(torch::tensor({0.f, 0.f, 0.f, 9.f}));
  }
  const auto moved = choose(*gate, fixture_logits());
  EXPECT_TRUE(moved.expert_ids.eq(3).all().item<bool>());
  EXPECT_TRUE(all_close(moved.weights.select(1, 0), at::sigmoid(fixture_logits()).select(1, 3), 1e-6));
}

TEST(BiasBalance, EveryExpertMovesByExactlyGammaAndStandsStillAfterItsSteps) {
  auto gate = biased(0.25, {{"steps", 2}});
  RoutingStats stats;
  stats.num_experts = 4;
  stats.counts = torch::tensor({4.f, 2.f, 1.f, 1.f});
  for (int i = 0; i < 5; ++i) gate->update(stats);
  EXPECT_TRUE(torch::equal(gate->named_buffers()["balance.bias"], torch::tensor({-.5f, 0.f, .5f, .5f})));
  EXPECT_EQ(gate->parameters().size(), 1u) << "the bias is no parameter: only the router is";
}

// Adaptive coefficient ---------------------------------------------------------------------------------------------------

TEST(AdaptiveCoefficient, ReproducesTheWorkedExample) {
  auto gate = gate_on_logits({{"balance", "adaptive"}});
  RoutingStats stats;
  stats.num_experts = 4;
  stats.counts = torch::full({4}, 250.f);
  const auto after = [&](double dropped) {
    stats.kept_counts = stats.counts * (1 - dropped);
    gate->update(stats);
    return gate->route(input_of(fixture_logits())).loss_scale;
  };
  EXPECT_NEAR(after(0), .0099, 1e-8);
  EXPECT_NEAR(after(0), .009801, 1e-8);
  EXPECT_NEAR(after(.01), .00972299, 1e-8);
  EXPECT_NEAR(after(.2), .00972576, 1e-8);
}

TEST(AdaptiveCoefficient, VirtualDropsStandInForDroplessLayersAndTheRangeHolds) {
  auto gate = gate_on_logits({{"balance", {{"kind", "adaptive"}, {"virtual_capacity", 1.5}, {"beta", 0.0}, {"alpha_max", 0.02}}}});
  RoutingStats stats;
  stats.num_experts = 4;
  stats.counts = stats.kept_counts = torch::tensor({70.f, 10.f, 10.f, 10.f});  // 70 - 1.5 * 25 = 32.5 of 100 above
  gate->update(stats);
  EXPECT_NEAR(gate->route(input_of(fixture_logits())).loss_scale, 0.02, 1e-7);  // 0.2 * 0.325, cut to alpha_max
  stats.counts = stats.kept_counts = torch::full({4}, 25.f);
  gate->update(stats);
  EXPECT_EQ(gate->route(input_of(fixture_logits())).loss_scale, 0);
  expect_error(ErrorKind::config, {"start", "alpha_max"}, [] { (void)gate_on_logits({{"balance", {{"kind", "adaptive"}, {"start", 1.0}}}}); });
}

// Second experts ---------------------------------------------------------------------------------------------------------

std::shared_ptr<Gate> gshard(const char* policy) {
  return gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 2}}}, {"keep", {{"kind", "random_second"}, {"policy", policy}}}});
}

TEST(GShard, TheSecondExpertIsSentAsOftenAsItsWeightSays) {
  const auto z = fixture_logits().repeat({4000, 1});
  const auto choice = choose(*gshard("random"), z, /*training=*/true);
  const auto sent = (choice.expert_ids.select(1, 1) >= 0).to(torch::kFloat64).view({4000, 6}).mean(0);
  EXPECT_TRUE(all_close(sent, torch::tensor({.537883, .950042, .238406, .950042, .755081, .537883}), 0.025));
  EXPECT_TRUE((choice.expert_ids.select(1, 0) >= 0).all().item<bool>());
  // The first keeps the weight that it had beside the second.
  EXPECT_TRUE(all_close(choice.weights.select(1, 0).slice(0, 0, 6), torch::tensor({.731059, .524979, .880797, .524979, .622459, .731059}), 1e-5));
}

TEST(GShard, OtherPoliciesFollowTheirRules) {
  const auto sent = [](const char* policy, bool training) {
    return (choose(*gshard(policy), fixture_logits(), training).expert_ids.select(1, 1) >= 0).sum().item<int64_t>();
  };
  EXPECT_EQ(sent("none", true), 0);
  EXPECT_EQ(sent("threshold", true), 5);  // all but .119203
  EXPECT_EQ(sent("random", false), 6);
  EXPECT_GE(sent("scaled", true), 5);
  expect_error(ErrorKind::config, {"two experts"}, [] {
    (void)choose(*gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 3}}}, {"keep", "random_second"}}), fixture_logits());
  });
}

// Masked outputs ---------------------------------------------------------------------------------------------------------

TEST(MaskedOutputs, TheMeanOfTrainingIsEvaluation) {
  for (const bool whole : {false, true}) {
    auto gate = gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 2}}}, {"keep", {{"kind", "masked_outputs"}, {"p", 0.2}, {"whole", whole}}}});
    const auto plain = choose(*gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 2}}}}), fixture_logits()).weights;
    EXPECT_TRUE(all_close(choose(*gate, fixture_logits()).weights, plain * 0.8, 1e-6));
    const auto z = fixture_logits().repeat({10000, 1});
    const auto drawn = choose(*gate, z, true).weights.view({10000, 6, 2});
    EXPECT_TRUE(all_close(drawn.mean(0), plain * 0.8, 3 * 0.4 / 100));
    const auto zeros = drawn.eq(0).sum(2);
    EXPECT_EQ(zeros.eq(1).any().item<bool>(), !whole) << "a whole token or single experts";
  }
}

}  // namespace
}  // namespace switchyard::balance_test
