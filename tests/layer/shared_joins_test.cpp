// Joins with coefficients per token: residual experts (coef_2) and the gated shared expert.
#include "support/gate_fixture.h"
#include "switchyard/moe.h"

namespace switchyard::shared_joins_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::normal;

std::shared_ptr<Join> join_of(const BlockSpec& kind, int64_t d_model) {
  return join_registry().make(kind, GateShape{.d_model = d_model, .num_experts = 4, .layer = 0, .seed = 3});
}

torch::Tensor run(Join& join, const torch::Tensor& routed, const torch::Tensor& shared, GateInput in) {
  std::map<std::string, torch::Tensor> terms;
  return join.join(routed, shared, in, terms);
}

MoEOptions options_of(const BlockSpec& join, double out_std = 0.5) {
  MoEOptions o{.d_model = 12, .d_expert = 8, .num_experts = 4, .gate = {"top_k", {{"k", 1}, {"renormalise", false}}}, .experts = "gelu", .num_shared_experts = 1, .join = join};
  o.init_std = 0.5;
  o.init_out_std = out_std;
  o.seed = 7;
  return o;
}

torch::Tensor shared_alone(MoELayer& layer, const torch::Tensor& x) {
  return layer.shared_experts()->forward(x, torch::tensor({int64_t{0}, x.size(0)}, torch::kInt64), {});
}

TEST(ResidualMoe, Coef2ReproducesTheWorkedExample) {
  auto join = join_of("coef_2", 2);
  const torch::NoGradGuard no_grad;
  join->named_parameters()["weight"].copy_(torch::eye(2));
  EXPECT_TRUE(all_close(run(*join, torch::tensor({{1.f, 0.f}}), torch::tensor({{0.f, 1.f}}), testing::input_of(torch::tensor({{.2f, -.3f}}))),
                        torch::tensor({{0.622459, 0.377541}}), 1e-6));
}

TEST(ResidualMoe, Coef2SumsToOneAndItsFirstCoefficientMultipliesTheRoutedSum) {
  auto join = join_of("coef_2", 5);
  const torch::NoGradGuard no_grad;
  join->named_parameters()["bias"].copy_(torch::tensor({0.3, -0.2}));
  const auto x = normal({9, 5}, 1), ones = torch::ones({9, 5});
  EXPECT_TRUE(all_close(run(*join, ones, ones, testing::input_of(x)), ones, 1e-6));
  const auto w = join->named_parameters()["weight"].to(torch::kFloat64);
  const auto first = run(*join, ones, 0 * ones, testing::input_of(x));
  for (int64_t t = 0; t < 9; ++t) {
    const double a = (w[0] * x[t]).sum().item<double>() + 0.3, b = (w[1] * x[t]).sum().item<double>() - 0.2;
    EXPECT_NEAR(first[t][0].item<double>(), 1 / (1 + std::exp(b - a)), 1e-6);
  }
  GateInput in = testing::input_of(x);
  in.valid = torch::tensor({true, false, true, true, true, true, true, true, true});
  EXPECT_EQ(run(*join, ones, 2 * ones, in)[1][0].item<float>(), 2) << "padding sees the shared experts alone";
}

TEST(ResidualMoe, WithoutRoutedExpertsItIsTheDenseNetwork) {
  MoELayer layer(options_of("sum"));
  const auto x = normal({9, 12}, 1);
  const torch::NoGradGuard no_grad;
  layer.experts().named_parameters()["w_out"].zero_();
  EXPECT_TRUE(torch::equal(layer(x).hidden, shared_alone(layer, x)));
}

TEST(ResidualMoe, AsManyRowsTravelAsForOneChoicePerToken) {
  for (const char* join : {"sum", "coef_2"}) {
    MoELayer layer(options_of(join));
    MoETrace trace;
    (void)layer.forward(normal({23, 12}, 1), GateInput{}, &trace);
    EXPECT_EQ(trace.plan.num_rows(), 23);
  }
}

TEST(ResidualMoe, ALayerMixesItsRoutedSumWithItsNetwork) {
  MoELayer layer(options_of("coef_2"));
  auto without = options_of("sum");
  without.num_shared_experts = 0;
  MoELayer routed(without);
  const auto x = normal({9, 12}, 1);
  const torch::NoGradGuard no_grad;
  const auto c = at::softmax(at::matmul(x, layer.named_parameters()["join.weight"].t()) + layer.named_parameters()["join.bias"], 1);
  EXPECT_TRUE(all_close(layer(x).hidden, c.slice(1, 0, 1) * routed(x).hidden + c.slice(1, 1) * shared_alone(layer, x), 1e-5));
}

TEST(GatedShared, ReproducesTheWorkedExample) {
  auto join = join_of("gated_shared", 1);
  const torch::NoGradGuard no_grad;
  join->named_parameters()["weight"].fill_(-0.5);
  EXPECT_TRUE(all_close(run(*join, torch::tensor({{1.f, 1.f}}), torch::tensor({{2.f, 4.f}}), testing::input_of(torch::ones({1, 1}))),
                        torch::tensor({{1.755081, 2.510163}}), 1e-6));
  EXPECT_EQ(join->parameters().size(), 1u) << "no bias";
}

TEST(GatedShared, WeightsOfZeroHalveTheSharedOutputExactly) {
  MoELayer layer(options_of({"gated_shared", {{"init_std", 0.0}}}, 0.5));
  layer.experts().named_parameters()["w_out"].detach().zero_();
  const auto x = normal({9, 12}, 1);
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(torch::equal(layer(x).hidden, shared_alone(layer, x) / 2));
}

TEST(GatedShared, WhatSharedExpertsAddDoesNotDependOnRouting) {
  auto o = options_of("gated_shared"), plain = options_of("sum");
  plain.num_shared_experts = 0;
  MoELayer layer(o), routed(plain);
  const auto x = normal({9, 12}, 1);
  const torch::NoGradGuard no_grad;
  const auto added = [&](double scale) {
    for (auto* l : {&layer, &routed}) l->gate().named_parameters()["score.weight"].copy_(normal({4, 12}, 9) * scale);
    return layer(x).hidden - routed(x).hidden;
  };
  const auto one = added(1);
  EXPECT_TRUE(all_close(added(-3), one, 1e-5));
  EXPECT_TRUE(all_close(one, at::sigmoid(at::matmul(x, layer.named_parameters()["join.weight"].t())) * shared_alone(layer, x), 1e-5));
}

TEST(SharedJoins, GradientsMatchFiniteDifferencesInFloat64) {
  for (const char* kind : {"coef_2", "gated_shared"}) {
    auto join = join_of(kind, 3);
    join->to(torch::kFloat64);
    auto x = normal({5, 3}, 1).to(torch::kFloat64).requires_grad_(), routed = normal({5, 3}, 2).to(torch::kFloat64).requires_grad_(),
         shared = normal({5, 3}, 4).to(torch::kFloat64).requires_grad_();
    const auto loss = [&] { return run(*join, routed, shared, testing::input_of(x)).square().sum(); };
    std::vector<torch::Tensor> tensors = join->parameters();
    for (const auto& t : {x, routed, shared}) tensors.push_back(t);
    for (auto& tensor : tensors) {
      for (auto& p : join->parameters()) p.mutable_grad() = torch::Tensor();
      EXPECT_LT(testing::finite_difference_gap(loss, tensor), 1e-6) << kind;
    }
  }
}

}  // namespace
}  // namespace switchyard::shared_joins_test
