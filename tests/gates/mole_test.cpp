// MoLE: weights of experts from their outputs, for a sequence at once.
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/moe.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard::mole_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;
using testing::finite_difference_gap;
using testing::normal;

constexpr int64_t kIn = 5, kOut = 3, kExperts = 4;

std::shared_ptr<Gate> mole(ConfigNode::Table options, int64_t experts = kExperts) {
  GateShape shape{kIn, experts, 0, 1};
  shape.d_out = kOut;
  auto gate = gate_registry().make(BlockSpec("mole", options), shape);
  torch::NoGradGuard no_grad;
  auto e = gate->named_parameters()["e"];
  e.copy_(normal(e.sizes(), 21));
  return gate;
}

GateInput call_of(const torch::Tensor& outputs, std::vector<int64_t> sequences) {
  GateInput in;
  in.hidden = torch::zeros({outputs.size(0), kIn});
  in.sequence_ids = torch::tensor(sequences, torch::kInt64);
  in.expert_outputs = [outputs] { return outputs; };
  return in;
}

TokenChoice weights_of(Gate& gate, const GateInput& in) { return std::get<TokenChoice>(gate.route(in).choice); }

torch::Tensor normalised(const torch::Tensor& u) { return (u - u.mean()) / at::sqrt(u.var(/*unbiased=*/false) + 1e-5); }

MoELayer layer_of(ConfigNode::Table gate, int64_t experts = kExperts) {
  MoEOptions o{.d_model = kIn, .d_expert = 1, .num_experts = experts, .gate = BlockSpec("mole", gate), .experts = {"lora", {{"rank", 2}, {"b_std", 0.7}}}};
  o.d_out = kOut;
  MoELayer layer(o);
  torch::NoGradGuard no_grad;
  auto e = layer.named_parameters()["gate.e"];
  e.copy_(normal(e.sizes(), 22));
  return layer;
}

GateInput in_sequences(std::vector<int64_t> sequences) {
  GateInput in;
  in.sequence_ids = torch::tensor(sequences, torch::kInt64);
  return in;
}

// Every expert alone on every token [E, T, o].
torch::Tensor alone(MoELayer& layer, const torch::Tensor& x) {
  const auto p = layer.named_parameters();
  return at::matmul(at::matmul(x, p["experts.a"].transpose(1, 2)), p["experts.b"].transpose(1, 2));
}

TEST(Mole, TheSoftmaxOfTheWorkedExampleIsDividedByTheTemperature) {
  // eps = [.4, .1] and tau = .5: the normalised vector is laid out by hand.
  auto gate = mole({{"temperature", 0.5}}, 2);
  const auto outputs = normal({1, 2, kOut}, 1);
  const auto u = normalised(outputs.flatten());
  torch::NoGradGuard no_grad;
  gate->named_parameters()["e"].copy_(torch::tensor({.4, .1}).unsqueeze(1) * u / u.square().sum());
  EXPECT_TRUE(all_close(weights_of(*gate, call_of(outputs, {0})).weights, torch::tensor({{0.645656, 0.354344}}), 1e-5));
}

TEST(Mole, ASequenceHasOneSetOfWeightsFromTheMeanOfWhatTheExpertsMake) {
  auto gate = mole({});
  const auto outputs = normal({6, kExperts, kOut}, 1);
  const auto got = weights_of(*gate, call_of(outputs, {4, 4, 4, 4, 9, 9}));
  const auto e = gate->named_parameters()["e"];
  for (const auto& [from, to] : {std::pair<int64_t, int64_t>{0, 4}, {4, 6}}) {
    const auto want = at::softmax(at::mv(e, normalised(outputs.slice(0, from, to).mean(0).flatten())), 0);
    for (int64_t t = from; t < to; ++t) EXPECT_TRUE(all_close(got.weights[t], want, 1e-5)) << t;
  }
  EXPECT_EQ(got.expert_ids[0][3].item<int64_t>(), 3);
  EXPECT_TRUE(gate->looks_ahead());
}

TEST(Mole, TheLiteralFormLaysTheOutputsOfAllTokensSideBySideExpertByExpert) {
  auto gate = mole({{"length", 3}});
  const auto outputs = normal({5, kExperts, kOut}, 1);
  ASSERT_EQ(gate->named_parameters()["e"].sizes(), torch::IntArrayRef({kExperts, kExperts * 3 * kOut}));
  const auto got = weights_of(*gate, call_of(outputs, {0, 1, 0, 0, 0})).weights;  // sequence 0 has four tokens, sequence 1 one
  const auto want = [&](std::vector<int64_t> tokens) {
    std::vector<torch::Tensor> parts;
    for (int64_t e = 0; e < kExperts; ++e)
      for (const int64_t t : tokens) parts.push_back(t < 0 ? torch::zeros({kOut}) : outputs[t][e]);
    return at::softmax(at::mv(gate->named_parameters()["e"], normalised(at::cat(parts))), 0);
  };
  EXPECT_TRUE(all_close(got[0], want({0, 2, 3}), 1e-5));  // the fourth is cut off
  EXPECT_TRUE(all_close(got[4], got[0], 0));
  EXPECT_TRUE(all_close(got[1], want({1, -1, -1}), 1e-5));
}

TEST(Mole, TokenByTokenNobodySeesAnother) {
  auto gate = mole({{"unit", "token"}});
  EXPECT_FALSE(gate->looks_ahead());
  auto outputs = normal({5, kExperts, kOut}, 1);
  const auto before = weights_of(*gate, call_of(outputs, {0, 0, 0, 0, 0})).weights;
  outputs[4].fill_(3);
  const auto after = weights_of(*gate, call_of(outputs, {0, 0, 0, 0, 0})).weights;
  EXPECT_TRUE(torch::equal(before.slice(0, 0, 4), after.slice(0, 0, 4)));
  EXPECT_FALSE(torch::equal(before[4], after[4]));
}

TEST(Mole, PaddingIsInNoMean) {
  auto gate = mole({});
  auto outputs = normal({5, kExperts, kOut}, 1);
  auto in = call_of(outputs, {0, 0, 0, 1, 1});
  const auto want = weights_of(*gate, call_of(outputs.slice(0, 0, 2), {0, 0})).weights;
  in.valid = torch::tensor({true, true, false, true, true});
  EXPECT_TRUE(all_close(weights_of(*gate, in).weights.slice(0, 0, 2), want, 1e-6));
}

TEST(Mole, OneExpertHasWeightOne) {
  auto layer = layer_of({}, 1);
  const auto x = normal({4, kIn}, 3);
  EXPECT_TRUE(all_close(layer.forward(x, in_sequences({0, 0, 1, 1})), alone(layer, x)[0], 1e-6));
}

TEST(Mole, AnEvenGateIsTheMeanOfTheLoras) {
  auto layer = layer_of({});
  torch::NoGradGuard no_grad;
  layer.named_parameters()["gate.e"].zero_();
  const auto x = normal({4, kIn}, 3);
  EXPECT_TRUE(all_close(layer.forward(x, in_sequences({0, 0, 1, 1})), alone(layer, x).mean(0), 1e-5));
}

TEST(Mole, TheLayerWeighsWhatEachExpertMakesOfASequence) {
  auto layer = layer_of({});
  const auto x = normal({5, kIn}, 3);
  const auto each = alone(layer, x);
  const auto p = [&](int64_t from, int64_t to) {
    return at::softmax(at::mv(layer.named_parameters()["gate.e"], normalised(each.slice(1, from, to).mean(1).flatten())), 0).view({-1, 1, 1});
  };
  const auto want = at::cat({(p(0, 3) * each.slice(1, 0, 3)).sum(0), (p(3, 5) * each.slice(1, 3, 5)).sum(0)});
  EXPECT_TRUE(all_close(layer.forward(x, in_sequences({0, 0, 0, 1, 1})), want, 1e-5));
}

TEST(Mole, MaskingRenormalisesTheOthersWithoutTraining) {
  auto all = layer_of({}), some = layer_of({{"masked", ConfigNode(ConfigNode::Array{1, 3})}});
  const auto x = normal({5, kIn}, 3);
  const auto in = in_sequences({0, 0, 0, 1, 1});
  MoETrace whole, left;
  (void)all.forward(x, in, &whole);
  const auto got = some.forward(x, in, &left);
  const auto p = std::get<TokenChoice>(whole.routing.choice).weights;
  auto kept = p.clone();
  kept.select(1, 1).zero_();
  kept.select(1, 3).zero_();
  kept = kept / kept.sum(1, /*keepdim=*/true);
  EXPECT_TRUE(all_close(std::get<TokenChoice>(left.routing.choice).weights, kept, 1e-6));
  EXPECT_TRUE(all_close(got, (kept.t().unsqueeze(2) * alone(all, x)).sum(0), 1e-5));
  EXPECT_EQ(left.plan.num_rows(), 10);  // what is masked costs nothing
  EXPECT_EQ(some.gate().experts_per_token(), 2);
}

TEST(Mole, WithFrozenExpertsTheGateAloneLearns) {
  auto layer = layer_of({});
  for (auto& p : layer.experts().parameters()) p.requires_grad_(false);
  layer.forward(normal({5, kIn}, 3), in_sequences({0, 0, 0, 1, 1})).square().sum().backward();
  for (const auto& item : layer.named_parameters()) {
    const bool of_gate = item.key().rfind("gate.", 0) == 0;
    EXPECT_EQ(item.value().grad().defined(), of_gate) << item.key();
    if (of_gate) {
      EXPECT_GT(item.value().grad().abs().max().item<double>(), 0) << item.key();
    }
  }
}

TEST(Mole, GradientsEqualFiniteDifferencesInDoublePrecision) {
  for (const auto& options : {ConfigNode::Table{}, ConfigNode::Table{{"length", 2}}, ConfigNode::Table{{"unit", "token"}}}) {
    auto layer = layer_of(options);
    layer.to(torch::kFloat64);
    auto x = normal({5, kIn}, 3).to(torch::kFloat64).requires_grad_();
    const auto loss = [&] { return (layer.forward(x, in_sequences({0, 0, 0, 1, 1})) * normal({5, kOut}, 2)).sum(); };
    EXPECT_LT(finite_difference_gap(loss, x), 1e-5);
    for (auto& item : layer.named_parameters()) EXPECT_LT(finite_difference_gap(loss, item.value()), 1e-5) << item.key();
  }
}

TEST(Mole, SaysWhatItNeedsAndWhichOptionsAreWrong) {
  auto gate = mole({});
  GateInput bare;
  bare.hidden = torch::zeros({2, kIn});
  expect_error(ErrorKind::usage, {"mole", "expert_outputs"}, [&] { (void)gate->route(bare); });
  expect_error(ErrorKind::config, {"mole", "unit = 'word'"}, [] { (void)mole({{"unit", "word"}}); });
  expect_error(ErrorKind::config, {"mole", "length = 2", "token"}, [] { (void)mole({{"unit", "token"}, {"length", 2}}); });
  expect_error(ErrorKind::config, {"mole", "masked holds 4", "0 to 3"}, [] { (void)mole({{"masked", ConfigNode(ConfigNode::Array{4})}}); });
  expect_error(ErrorKind::config, {"mole", "all 1 experts are masked"}, [] { (void)mole({{"masked", ConfigNode(ConfigNode::Array{0})}}, 1); });
  expect_error(ErrorKind::config, {"mole", "temperature = 0"}, [] { (void)mole({{"temperature", 0.0}}); });
}

}  // namespace
}  // namespace switchyard::mole_test
