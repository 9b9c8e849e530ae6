#include "switchyard/gate.h"

#include "core/chain_gate.h"
#include "core/ops.h"
#include "support/gate_fixture.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

using testing::all_close;
using testing::choose;
using testing::fixture_logits;
using testing::gate_of;
using testing::gate_on_logits;
using testing::input_of;

TEST(TopK, FixtureGivesTheExpertsAndBothNormalisationOrders) {
  const auto z = fixture_logits();
  const auto renormalised = choose(*gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 2}}}}), z);
  EXPECT_TRUE(torch::equal(renormalised.expert_ids, torch::tensor({0, 1, 1, 0, 0, 2, 2, 3, 0, 1, 3, 0}, torch::kInt64).view({6, 2})));
  EXPECT_TRUE(all_close(renormalised.weights[0], torch::tensor({.731059, .268941}), 1e-5));
  const auto raw = choose(*gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 2}}}, {"weigh", "raw"}}), z);
  EXPECT_TRUE(all_close(raw.weights[0], torch::tensor({.643914, .236883}), 1e-5));
  EXPECT_TRUE(raw.weights.sum(1).lt(1).all().item<bool>());
}

TEST(TopK, SoftmaxThenTopKThenRenormaliseIsTopKThenSoftmax) {
  auto z = torch::empty({200, 16});
  RandomStream(5).fill_normal(z.data_ptr<float>(), z.numel());
  z = z * 3;
  for (int64_t k : {1, 2, 5, 16}) {
    const ConfigNode select{{"kind", "top_k"}, {"k", k}};
    const auto a = choose(*gate_on_logits({{"select", select}, {"weigh", "renormalise"}, {"allow_constant_weight", true}}, 16), z);
    const auto b = choose(*gate_on_logits({{"select", select}, {"weigh", "softmax_chosen"}, {"allow_constant_weight", true}}, 16), z);
    EXPECT_TRUE(torch::equal(a.expert_ids, b.expert_ids));
    EXPECT_TRUE(all_close(a.weights, b.weights, 5e-7));
    EXPECT_TRUE(all_close(a.weights.sum(1), torch::ones({200}), 5e-7));
  }
}

TEST(TopK, EqualScoresGoToTheLowerIdAndNanChoosesNobody) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const auto scores = torch::tensor({0.f, 0.f, 0.f, 0.f, nan, 1.f, nan, 1.f, -inf, -inf, 2.f, -inf, nan, nan, nan, nan}).view({4, 4});
  const auto want = torch::tensor({0, 1, 2, 1, 3, -1, 2, -1, -1, -1, -1, -1}, torch::kInt64).view({4, 3});
  EXPECT_TRUE(torch::equal(ops::top_k(scores, 3), want));
  EXPECT_TRUE(torch::equal(ops::top_k(scores.to(torch::kFloat64), 3), want));
}

TEST(TopK, KernelEqualsTheStableSortForManyShapes) {
  for (int64_t experts : {1, 3, 8, 60, 257})
    for (int64_t k : {int64_t{1}, std::min<int64_t>(experts, 6), experts}) {
      auto s = torch::empty({33, experts});
      RandomStream(9).fill_uniform(s.data_ptr<float>(), s.numel());
      s = (s * 7).floor();  // many ties
      EXPECT_TRUE(torch::equal(ops::top_k(s, k), ops::top_k(s.to(torch::kFloat64), k))) << experts << " " << k;
    }
}

TEST(Raw, EveryLogitGetsGradientAndRenormaliseReachesTheChosenOnly) {
  const auto grad_of = [](const char* weigh) {
    auto gate = gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 2}}}, {"weigh", weigh}});
    auto x = fixture_logits().requires_grad_();
    const auto choice = std::get<TokenChoice>(gate->route(input_of(x)).choice);
    (choice.weights * torch::tensor({1.0f, -0.5f})).sum().backward();
    return x.grad()[0].clone();
  };
  EXPECT_TRUE(grad_of("raw").ne(0).all().item<bool>());
  const auto chosen_only = grad_of("renormalise");
  EXPECT_NE(chosen_only[0].item<float>(), 0);
  EXPECT_NEAR(chosen_only[2].item<float>(), 0, 1e-7);
  EXPECT_NEAR(chosen_only[3].item<float>(), 0, 1e-7);
}

TEST(DenseGate, WeightsAreTheSoftmaxAndTopKOfAllExpertsIsTheSame) {
  const auto z = fixture_logits();
  auto dense = gate_on_logits({{"select", "all"}, {"weigh", "raw"}});
  const auto choice = choose(*dense, z);
  EXPECT_TRUE(all_close(choice.weights, at::softmax(z, 1), 1e-6));
  EXPECT_EQ(dense->experts_per_token(), 4);
  const auto all = choose(*gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 4}}}}), z);
  EXPECT_TRUE(all_close(torch::zeros({6, 4}).scatter(1, all.expert_ids, all.weights), choice.weights, 1e-6));
}

TEST(DenseGate, EveryRouterColumnHasGradientThatMatchesFiniteDifferences) {
  auto gate = gate_registry().make(BlockSpec("dense"), GateShape{5, 3, 0, 1});
  gate->to(torch::kFloat64);
  auto x = torch::empty({7, 5});
  RandomStream(2).fill_normal(x.data_ptr<float>(), x.numel());
  const auto values = torch::arange(21, torch::kFloat64).view({7, 3}).sin();
  const auto loss = [&] { return (std::get<TokenChoice>(gate->route(input_of(x.to(torch::kFloat64))).choice).weights * values).sum(); };
  auto router = gate->named_parameters()["score.weight"];
  EXPECT_LT(testing::finite_difference_gap(loss, router, 15), 1e-6);
  EXPECT_TRUE(router.grad().abs().sum(1).gt(0).all().item<bool>());
}

TEST(Jitter, MultipliesTheInputWithinItsBoundsInTrainingOnly) {
  auto gate = gate_on_logits({{"noise", {{"kind", "jitter"}, {"eps", 0.1}}}}, 32);
  const auto x = torch::full({500, 32}, 2.0f);
  EXPECT_TRUE(torch::equal(gate->route(input_of(x)).scores.logits, x));
  const auto noisy = gate->route(input_of(x, true)).scores.logits / 2;
  EXPECT_GE(noisy.min().item<double>(), 0.9);
  EXPECT_LE(noisy.max().item<double>(), 1.1);
  EXPECT_NEAR(noisy.mean().item<double>(), 1, 4 * 0.1 / std::sqrt(3.0 * 16000));
  EXPECT_NEAR(noisy.var().item<double>(), 0.01 / 3, 1e-4);
}

TEST(Gaussian, AddsNoiseOfTheStatedDeviationAfterTheReportedLogits) {
  auto gate = gate_on_logits({{"noise", {{"kind", "gaussian"}, {"std", 0.5}}}, {"select", "all"}, {"weigh", "raw"}}, 64);
  const auto x = torch::zeros({400, 64});
  const auto routing = gate->route(input_of(x, true));
  EXPECT_TRUE(torch::equal(routing.scores.logits, x));  // before noise: what the router z-loss sees
  const auto log_odds = routing.scores.probs.log() - routing.scores.probs.log().mean(1, true);
  EXPECT_NEAR(log_odds.std().item<double>(), 0.5, 0.01);
  EXPECT_TRUE(torch::equal(gate->route(input_of(x)).scores.probs, at::softmax(x, 1)));
}

TEST(Noise, DoesNotDependOnHowTokensAreSplitIntoCalls) {
  for (const char* kind : {"jitter", "gaussian"}) {
    auto gate = gate_on_logits({{"noise", kind}}, 8);
    const auto x = torch::ones({10, 8});
    const auto whole = gate->route(input_of(x, true)).scores.probs;
    auto part = input_of(x.slice(0, 6), true);
    part.first_token = 6;
    EXPECT_TRUE(torch::equal(gate->route(part).scores.probs, whole.slice(0, 6))) << kind;
    auto other = input_of(x, true);
    other.random = RandomStream(1);
    EXPECT_FALSE(torch::equal(gate->route(other).scores.probs, whole)) << kind;
  }
}

TEST(Chain, UnknownBlocksAndOptionsAreRefusedByNameBeforeAnythingIsBuilt) {
  const auto message = [](ConfigNode::Table chain) -> std::string {
    try { gate_registry().check(BlockSpec("chain", chain), "model.moe.gate"); } catch (const Error& e) { return e.what(); }
    return "accepted";
  };
  EXPECT_EQ(message({{"score", "linaer"}}), "there is no score block 'linaer'; did you mean 'linear'?");
  EXPECT_EQ(message({{"noise", {{"kind", "jitter"}, {"epss", 1}}}}), "unknown key 'epss' in [model.moe.gate.noise]; did you mean 'eps'?");
  EXPECT_EQ(message({{"sel", "top_k"}}).substr(0, 38), "unknown key 'sel' in [model.moe.gate];");
  EXPECT_EQ(message({}), "accepted");
}

TEST(LinearScore, RouterStaysFloat32UnderBfloat16Compute) {
  auto gate = gate_of({}, 64, 8);
  auto x = torch::empty({50, 64});
  RandomStream(3).fill_normal(x.data_ptr<float>(), x.numel());
  const auto exact = gate->route(input_of(x)).scores.logits;
  const ComputeScope scope(ComputeType::bfloat16);
  EXPECT_TRUE(torch::equal(gate->route(input_of(x)).scores.logits, exact));
}

}  // namespace
}  // namespace switchyard
