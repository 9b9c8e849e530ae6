// How shared experts meet the routed sum: the rules alone, and in whole layers.
#include "core/routed_share.h"
#include "expect_error.h"
#include "layer/tag_network.h"
#include "support/gate_fixture.h"
#include "switchyard/moe.h"

namespace switchyard::join_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;
using testing::normal;

std::shared_ptr<Join> cmr(int64_t d_model, double dropout = 0) {
  return join_registry().make({"cmr", {{"dropout", dropout}}}, GateShape{.d_model = d_model, .num_experts = 4, .layer = 0, .seed = 3});
}

// The same share of routed experts for every token: weights 0, so that the bias decides.
std::shared_ptr<Join> constant(int64_t d_model, double logit, double dropout = 0) {
  auto join = cmr(d_model, dropout);
  const torch::NoGradGuard no_grad;
  join->named_parameters()["weight"].zero_();
  join->named_parameters()["bias"].fill_(logit);
  return join;
}

struct Joined {
  torch::Tensor y, share;
};

Joined run(Join& join, const torch::Tensor& routed, const torch::Tensor& shared, GateInput in) {
  std::map<std::string, torch::Tensor> terms;
  auto y = join.join(routed, shared, in, terms);
  return {y, terms.count(kRoutedShare) ? terms.at(kRoutedShare) : torch::Tensor()};
}

TEST(SumJoin, AddsAndReportsNothing) {
  auto sum = join_registry().make("sum", GateShape{.d_model = 3});
  const auto a = normal({5, 3}, 1), b = normal({5, 3}, 2);
  const auto got = run(*sum, a, b, testing::input_of(a));
  EXPECT_TRUE(torch::equal(got.y, a + b));
  EXPECT_FALSE(got.share.defined());
  EXPECT_TRUE(sum->parameters().empty());
}

TEST(Cmr, ReproducesTheWorkedExample) {
  const auto got = run(*constant(2, 0.4), torch::tensor({{3.f, -1.f}}), torch::tensor({{1.f, 2.f}}), testing::input_of(normal({1, 2}, 1)));
  EXPECT_TRUE(all_close(got.y, torch::tensor({{2.197375, 0.203937}}), 1e-6));
  EXPECT_NEAR(got.share.item<double>(), 0.598688, 1e-6);
}

TEST(Cmr, AtItsEndsOnlyOneOfTheTwoIsLeftExactly) {
  const auto routed = normal({7, 4}, 1), shared = normal({7, 4}, 2);
  const auto in = testing::input_of(normal({7, 4}, 3));
  EXPECT_TRUE(torch::equal(run(*constant(4, -200), routed, shared, in).y, shared));
  EXPECT_TRUE(torch::equal(run(*constant(4, 200), routed, shared, in).y, routed));
}

TEST(Cmr, EachTokenHasTheShareThatItsOwnContentGives) {
  auto join = cmr(4);
  const auto x = normal({6, 4}, 3), routed = normal({6, 4}, 1), shared = normal({6, 4}, 2);
  const torch::NoGradGuard no_grad;
  join->named_parameters()["bias"].fill_(0.3);
  const auto w = join->named_parameters()["weight"].to(torch::kFloat64);
  const auto got = run(*join, routed, shared, testing::input_of(x));
  double sum = 0;
  for (int64_t t = 0; t < 6; ++t) {
    const double g = 1 / (1 + std::exp(-((w[0] * x[t].to(torch::kFloat64)).sum().item<double>() + 0.3)));
    sum += g;
    EXPECT_TRUE(all_close(got.y[t], (1 - g) * shared[t] + g * routed[t], 1e-6)) << t;
  }
  EXPECT_NEAR(got.share.item<double>(), sum, 1e-5);
}

TEST(Cmr, PaddingSeesTheSharedExpertsAloneAndIsCountedNowhere) {
  const auto routed = normal({4, 3}, 1), shared = normal({4, 3}, 2);
  auto in = testing::input_of(normal({4, 3}, 3));
  in.valid = torch::tensor({true, false, true, false});
  const auto got = run(*constant(3, 0), routed, shared, in);
  for (const int64_t t : {1, 3}) EXPECT_TRUE(torch::equal(got.y[t], shared[t]));
  EXPECT_TRUE(all_close(got.y[0], (routed[0] + shared[0]) / 2, 1e-6));
  EXPECT_NEAR(got.share.item<double>(), 1.0, 1e-6);
}

TEST(Cmr, DropoutIsAPlainMaskInTrainingAlone) {
  const int64_t tokens = 10000;
  const auto routed = torch::ones({tokens, 1}), shared = torch::zeros({tokens, 1});  // y = g
  auto in = testing::input_of(normal({tokens, 1}, 3), /*training=*/true);
  in.random = RandomStream(5);
  const double g = 1 / (1 + std::exp(-2.0));
  auto join = constant(1, 2.0, 0.2);
  const auto y = run(*join, routed, shared, in).y;
  const auto kept = y > 0;
  EXPECT_TRUE(all_close(y.index({kept}), torch::full({kept.sum().item<int64_t>()}, g), 1e-6)) << "shares that stay are not scaled";
  EXPECT_NEAR(kept.to(torch::kFloat64).mean().item<double>(), 0.8, 3 * 0.4 / 100);
  // The draw belongs to the token, not to the call.
  in.first_token = 4000;
  in.hidden = in.hidden.slice(0, 4000);
  EXPECT_TRUE(torch::equal(run(*join, routed.slice(0, 4000), shared.slice(0, 4000), in).y, y.slice(0, 4000)));
  in.training = false;
  EXPECT_EQ(run(*join, routed.slice(0, 4000), shared.slice(0, 4000), in).y.eq(0).sum().item<int64_t>(), 0);
}

TEST(Cmr, GradientsMatchFiniteDifferencesInFloat64) {
  auto join = cmr(3);
  join->to(torch::kFloat64);
  auto x = normal({5, 3}, 1).to(torch::kFloat64).requires_grad_(), routed = normal({5, 3}, 2).to(torch::kFloat64).requires_grad_(),
       shared = normal({5, 3}, 4).to(torch::kFloat64).requires_grad_();
  const auto loss = [&] {
    const auto out = run(*join, routed, shared, testing::input_of(x));
    return out.y.square().sum() + (out.share / 5 - 0.8).abs();
  };
  for (auto& tensor : {x, routed, shared, join->named_parameters()["weight"], join->named_parameters()["bias"]}) {
    for (auto& p : join->parameters()) p.mutable_grad() = torch::Tensor();
    EXPECT_LT(testing::finite_difference_gap(loss, tensor), 1e-6);
  }
}

MoEOptions options_of(const BlockSpec& join) {
  MoEOptions o{.d_model = 12, .d_expert = 8, .num_experts = 4, .num_shared_experts = 1, .join = join};
  o.init_std = o.init_out_std = 0.5;
  o.seed = 7;
  return o;
}

// The layer against its parts: the same layer without shared experts, and its shared bank.
TEST(Cmr, ALayerMixesItsRoutedSumWithItsSharedExperts) {
  auto with = options_of({"cmr", {{"dropout", 0.0}}});
  with.routed_scale = 1.5;
  auto without = with;
  without.num_shared_experts = 0;
  without.join = "sum";
  MoELayer layer(with), routed(without);
  const auto x = normal({3, 5, 12}, 8);
  MoETrace trace;
  GateInput in;
  in.valid = torch::ones({15}, torch::kBool);
  in.valid[4] = false;
  const torch::NoGradGuard no_grad;
  const auto y = layer.forward(x, in, &trace).view({15, 12});
  const auto flat = x.view({15, 12}), sum = routed.forward(x, in).view({15, 12});
  const auto shared = layer.shared_experts()->forward(flat, torch::tensor({int64_t{0}, int64_t{15}}, torch::kInt64), {});
  const auto g = at::sigmoid(at::matmul(flat, layer.named_parameters()["join.weight"].t())) * in.valid.unsqueeze(1);
  EXPECT_TRUE(all_close(y, (1 - g) * shared + g * sum, 1e-5));
  EXPECT_NEAR(trace.stats.terms.at(kRoutedShare).item<double>(), g.sum().item<double>(), 1e-5);
}

TEST(Cmr, SubNetworksOfATagKeepTheMixture) {
  auto o = options_of({"cmr", {{"dropout", 0.0}}});
  o.gate = {"chain", {{"pool", {{"kind", "tag"}, {"tags", 3}}}, {"select", {{"kind", "top_k"}, {"k", 2}}}}};
  MoELayer layer(o);
  const auto x = normal({6, 12}, 8);
  GateInput in;
  in.tags = torch::full({6}, 1, torch::kInt64);
  const torch::NoGradGuard no_grad;
  layer.join()->named_parameters()["bias"].fill_(0.7);
  EXPECT_TRUE(all_close(experts_of_tag(layer, 1)->forward(x, in), layer.forward(x, in), 1e-6));
}

TEST(Cmr, WhatMakesNoSenseIsRefused) {
  expect_error(ErrorKind::config, {"dropout = 1"}, [] { (void)cmr(3, 1.0); });
  expect_error(ErrorKind::config, {"init_scale = -1"}, [] { (void)join_registry().make({"cmr", {{"init_scale", -1.0}}}, GateShape{.d_model = 3}); });
  auto o = options_of("cmr");
  o.num_shared_experts = 0;
  expect_error(ErrorKind::config, {"'cmr'", "layers.0.ffn", "num_shared_experts = 0"}, [&] { MoELayer layer(o); });
  expect_error(ErrorKind::config, {"join", "cmrr", "cmr"}, [] { MoELayer layer(options_of("cmrr")); });
}

// Expert output masking, on the outputs of a layer.
TEST(OutputMasking, TheMeanOutputOfTrainingIsThatOfEvaluation) {
  for (const bool whole : {false, true}) {
    MoEOptions o{.d_model = 4, .d_expert = 6, .num_experts = 4};
    o.gate = {"chain", {{"select", {{"kind", "top_k"}, {"k", 2}}}, {"keep", {{"kind", "masked_outputs"}, {"p", 0.2}, {"whole", whole}}}}};
    o.init_std = o.init_out_std = 0.5;
    MoELayer layer(o);
    const torch::NoGradGuard no_grad;
    const int64_t draws = 10000;
    const auto x = normal({3, 4}, 2);
    GateInput in;
    const auto want = layer.forward(x, in);
    in.training = true;
    in.random = RandomStream(9);
    const auto y = layer.forward(x.repeat({draws, 1}), in).view({draws, 3, 4});
    const auto sigma = y.std(0) / std::sqrt(static_cast<double>(draws));
    EXPECT_LT(((y.mean(0) - want).abs() / sigma.clamp_min(1e-9)).max().item<double>(), 3) << whole;
    EXPECT_NEAR(y.abs().sum(2).eq(0).to(torch::kFloat64).mean().item<double>(), whole ? 0.2 : 0.04, 0.01);
  }
}

TEST(OutputMasking, ChangesOutputsAndNoDecision) {
  const auto layer_of = [](const BlockSpec& keep) {
    MoEOptions o{.d_model = 12, .d_expert = 8, .num_experts = 4};
    o.gate = {"chain", {{"select", {{"kind", "top_k"}, {"k", 2}}}, {"keep", write_any(keep)}}};
    o.capacity = {.factor = 0.75};
    o.init_std = o.init_out_std = 0.5;
    return std::make_shared<MoELayer>(o);
  };
  GateInput in;
  in.training = true;
  MoETrace masked, plain;
  const auto x = normal({24, 12}, 3);
  const auto a = layer_of({"masked_outputs", {{"p", 0.5}}})->forward(x, in, &masked), b = layer_of("all")->forward(x, in, &plain);
  EXPECT_FALSE(a.equal(b));
  EXPECT_TRUE(torch::equal(std::get<TokenChoice>(masked.routing.choice).expert_ids, std::get<TokenChoice>(plain.routing.choice).expert_ids));
  EXPECT_TRUE(torch::equal(masked.plan.kept, plain.plan.kept));
  EXPECT_TRUE(torch::equal(masked.stats.counts, plain.stats.counts));
}

}  // namespace
}  // namespace switchyard::join_test
