// LoRA and (IA)^3 experts: what one is, what a mixture of them is, and what averaging them means.
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/moe.h"

#include <ATen/ATen.h>

namespace switchyard::lora_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;
using testing::finite_difference_gap;
using testing::normal;

constexpr int64_t kIn = 6, kOut = 5, kExperts = 4;

BlockSpec dense(const char* combine) {
  return {"chain", {{"select", "all"}, {"weigh", "raw"}, {"combine", combine}, {"score", {{"kind", "linear"}, {"init_scale", 4}}}}};
}

MoELayer layer_of(const BlockSpec& experts, const BlockSpec& gate, int64_t num_experts = kExperts, int64_t heads = 1) {
  MoEOptions o{.d_model = kIn, .d_expert = 1, .num_experts = num_experts, .gate = gate, .experts = experts};
  o.d_out = experts.kind == "lora" ? kOut : kIn;
  o.heads = heads;
  o.seed = 3;
  MoELayer layer(o);
  torch::NoGradGuard no_grad;
  for (auto& item : layer.named_parameters())
    if (item.key() == "experts.b" || item.key() == "experts.scale") item.value().copy_(normal(item.value().sizes(), 11));
  return layer;
}

torch::Tensor parameter(MoELayer& layer, const char* name) { return layer.named_parameters()[name]; }

GateInput tokens(bool training = false) {
  GateInput in;
  in.training = training;
  in.random = RandomStream(9);
  return in;
}

// Oracle: one token and one expert at a time, sum_i p_i s B_i A_i x.
torch::Tensor lora_by_loops(MoELayer& layer, const torch::Tensor& x, double scale) {
  const auto probs = at::softmax(at::matmul(x, parameter(layer, "gate.score.weight").t()), -1);
  const auto a = parameter(layer, "experts.a"), b = parameter(layer, "experts.b");
  auto y = torch::zeros({x.size(0), b.size(1)}, x.options());
  for (int64_t t = 0; t < x.size(0); ++t)
    for (int64_t e = 0; e < a.size(0); ++e) y[t] += probs[t][e] * scale * at::mv(b[e], at::mv(a[e], x[t]));
  return y;
}

TEST(Lora, ReproducesTheWorkedExample) {
  MoEOptions o{.d_model = 2, .d_expert = 1, .num_experts = 1, .gate = "dense", .experts = {"lora", {{"rank", 1}, {"alpha", 4}}}};
  o.d_out = 3;
  MoELayer layer(o);
  torch::NoGradGuard no_grad;
  parameter(layer, "experts.a").copy_(torch::tensor({{1., -1.}}));
  parameter(layer, "experts.b").copy_(torch::tensor({1., .5, -1.}).view({1, 3, 1}));
  const auto x = torch::tensor({{2.f, 1.f}}), w = torch::tensor({{1.f, 0.f}, {0.f, 1.f}, {1.f, 1.f}});
  EXPECT_TRUE(all_close(at::matmul(x, w.t()) + layer.forward(x, tokens()), torch::tensor({{6., 3., -1.}}), 1e-6));
}

TEST(Lora, AMixtureIsTheLoopOverTokensAndExperts) {
  const BlockSpec experts{"lora", {{"rank", 3}, {"alpha", 12}}};
  auto outputs = layer_of(experts, dense("outputs")), merged = layer_of(experts, dense("parameters"));
  const auto x = normal({7, kIn}, 1);
  const auto want = lora_by_loops(outputs, x, 4);
  EXPECT_TRUE(all_close(outputs.forward(x, tokens()), want, 1e-5));
  EXPECT_TRUE(all_close(merged.forward(x, tokens()), want, 1e-5));  // averaging B A is averaging outputs
  EXPECT_EQ(outputs.forward(normal({0, kIn}, 1), tokens()).sizes(), (std::vector<int64_t>{0, kOut}));
}

TEST(Lora, BeginsAsNothingWithAUniformAndBZero) {
  MoEOptions o{.d_model = 64, .d_expert = 1, .num_experts = kExperts, .gate = "dense", .experts = {"lora", {{"rank", 8}}}};
  o.d_out = 32;
  MoELayer layer(o);
  EXPECT_TRUE(torch::equal(layer.forward(normal({5, 64}, 1), tokens()), torch::zeros({5, 32})));
  const auto a = parameter(layer, "experts.a");
  EXPECT_LE(a.abs().max().item<double>(), 1 / 8.0);
  EXPECT_NEAR(a.std().item<double>(), 1 / (8 * std::sqrt(3.0)), 0.003);  // of U(-1/8, 1/8); 2048 values
  EXPECT_FALSE(torch::equal(a[0], a[1]));
  EXPECT_EQ(layer.experts().parameters_per_expert() * kExperts, a.numel() + parameter(layer, "experts.b").numel());
}

TEST(Lora, OneExpertIsPlainLora) {
  auto layer = layer_of({"lora", {{"rank", 2}, {"alpha", 4}}}, "dense", 1);
  const auto x = normal({7, kIn}, 1);
  const auto plain = layer.experts().forward(x, torch::tensor({int64_t{0}, int64_t{7}}), {});
  EXPECT_TRUE(torch::equal(layer.forward(x, tokens()), plain));  // the softmax over one is 1
}

TEST(Lora, AnEvenGateIsOneLoraOfTheMeanProduct) {
  for (const char* combine : {"outputs", "parameters"}) {
    auto layer = layer_of({"lora", {{"rank", 2}, {"alpha", 6}}}, dense(combine));
    torch::NoGradGuard no_grad;
    parameter(layer, "gate.score.weight").zero_();
    const auto x = normal({7, kIn}, 1);
    const auto delta = at::matmul(parameter(layer, "experts.b"), parameter(layer, "experts.a")).sum(0) * (3.0 / kExperts);
    EXPECT_TRUE(all_close(layer.forward(x, tokens()), at::matmul(x, delta.t()), 1e-5)) << combine;
  }
}

TEST(Lora, AveragedFactorsAreAnotherFunctionThanAveragedProducts) {
  BlockSpec per_sequence = dense("parameters");
  per_sequence.options.table()->emplace_back("pool", "sequence");
  auto factors = layer_of({"lora", {{"rank", 2}, {"merge", "factors"}}}, per_sequence), product = layer_of({"lora", {{"rank", 2}}}, per_sequence);
  const auto x = normal({6, kIn}, 1);
  auto in = tokens();
  in.sequence_ids = torch::tensor({0, 0, 0, 0, 5, 5}, torch::kInt64);
  const auto a = parameter(factors, "experts.a"), b = parameter(factors, "experts.b"), w = parameter(factors, "gate.score.weight");
  std::vector<torch::Tensor> of_factors, of_products;
  for (const auto& [from, to] : {std::pair<int64_t, int64_t>{0, 4}, {4, 6}}) {
    const auto part = x.slice(0, from, to);
    const auto p = at::softmax(at::mv(w, part.mean(0)), 0).view({-1, 1, 1});
    of_factors.push_back(at::matmul(part, at::matmul((p * b).sum(0), (p * a).sum(0)).t()));
    of_products.push_back(at::matmul(part, (p * at::matmul(b, a)).sum(0).t()));
  }
  EXPECT_TRUE(all_close(factors.forward(x, in), at::cat(of_factors), 1e-5));
  EXPECT_TRUE(all_close(product.forward(x, in), at::cat(of_products), 1e-5));
  EXPECT_FALSE(all_close(factors.forward(x, in), product.forward(x, in), 1e-2));
}

TEST(Lora, DropoutOfATokenIsTheSameForAllExpertsAndBothWaysToAverage) {
  const BlockSpec experts{"lora", {{"rank", 2}, {"dropout", 0.4}}};
  auto outputs = layer_of(experts, dense("outputs")), merged = layer_of(experts, dense("parameters"));
  auto without = layer_of({"lora", {{"rank", 2}}}, dense("outputs"));
  const auto x = normal({9, kIn}, 1);
  EXPECT_TRUE(all_close(outputs.forward(x, tokens(true)), merged.forward(x, tokens(true)), 1e-5));
  EXPECT_FALSE(all_close(outputs.forward(x, tokens(true)), without.forward(x, tokens()), 1e-2));
  EXPECT_TRUE(torch::equal(outputs.forward(x, tokens(false)), without.forward(x, tokens(false))));
  // A token alone, at its place in the step, gets the same mask.
  auto in = tokens(true);
  in.first_token = 7;
  EXPECT_TRUE(all_close(outputs.forward(x.slice(0, 7), in), outputs.forward(x, tokens(true)).slice(0, 7), 1e-5));
}

TEST(Lora, ScalesByAlphaOverRankOrItsRoot) {
  const auto x = normal({3, kIn}, 1);
  auto one = layer_of({"lora", {{"rank", 4}}}, "dense", 1), plain = layer_of({"lora", {{"rank", 4}, {"alpha", 8}}}, "dense", 1),
       root = layer_of({"lora", {{"rank", 4}, {"alpha", 8}, {"rank_stabilised", true}}}, "dense", 1);
  const auto unit = one.forward(x, tokens());
  EXPECT_TRUE(all_close(plain.forward(x, tokens()), unit * 2, 1e-6));
  EXPECT_TRUE(all_close(root.forward(x, tokens()), unit * 4, 1e-6));
}

TEST(Lora, GradientsEqualFiniteDifferencesInDoublePrecision) {
  for (const char* combine : {"outputs", "parameters"}) {
    auto layer = layer_of({"lora", {{"rank", 2}, {"alpha", 3}}}, dense(combine));
    layer.to(torch::kFloat64);
    auto x = normal({5, kIn}, 1).to(torch::kFloat64).requires_grad_();
    const auto loss = [&] { return (layer.forward(x, tokens()) * normal({5, kOut}, 2)).sum(); };
    EXPECT_LT(finite_difference_gap(loss, x), 1e-6) << combine;
    for (auto& item : layer.named_parameters()) EXPECT_LT(finite_difference_gap(loss, item.value()), 1e-6) << combine << " " << item.key();
  }
}

TEST(Lora, WrongOptionsAreNamed) {
  expect_error(ErrorKind::config, {"lora", "rank = 0"}, [] { (void)layer_of({"lora", {{"rank", 0}}}, "dense"); });
  expect_error(ErrorKind::config, {"lora", "merge = 'sum'", "product or factors"}, [] { (void)layer_of({"lora", {{"merge", "sum"}}}, "dense"); });
  expect_error(ErrorKind::config, {"lora", "dropout = 1"}, [] { (void)layer_of({"lora", {{"dropout", 1.0}}}, "dense"); });
  expect_error(ErrorKind::config, {"lora", "alpha = -1"}, [] { (void)layer_of({"lora", {{"alpha", -1.0}}}, "dense"); });
  expect_error(ErrorKind::config, {"lora", "b_std = -1"}, [] { (void)layer_of({"lora", {{"b_std", -1.0}}}, "dense"); });
}

// Oracle: t_h * sum_i p_i(t_h) l_ih for each head h of each token.
TEST(Scale, AMixtureMultipliesByTheMeanVectorOfEachHead) {
  for (const int64_t heads : {1, 3})
    for (const char* combine : {"outputs", "parameters"}) {
      auto layer = layer_of("scale", dense(combine), kExperts, heads);
      const auto t = normal({4 * heads, kIn}, 1);
      const auto p = at::softmax(at::matmul(t, parameter(layer, "gate.score.weight").t()), -1);
      const auto l = parameter(layer, "experts.scale").view({kExperts, heads, kIn});
      std::vector<torch::Tensor> want;
      for (int64_t r = 0; r < t.size(0); ++r) {
        auto mean = torch::zeros({kIn});
        for (int64_t e = 0; e < kExperts; ++e) mean += p[r][e] * l[e][r % heads];
        want.push_back(t[r] * mean);
      }
      EXPECT_TRUE(all_close(layer.forward(t, tokens()), at::stack(want), 1e-5)) << heads << " " << combine;
    }
}

TEST(Scale, ReproducesTheWorkedExamples) {
  // (IA)^3 on an inner activation: l = [2, .5], act = [1, -3], W2 = [1, 1].
  MoELayer one({.d_model = 2, .d_expert = 1, .num_experts = 1, .gate = "dense", .experts = "scale"});
  torch::NoGradGuard no_grad;
  parameter(one, "experts.scale").copy_(torch::tensor({{2., .5}}));
  EXPECT_NEAR(one.forward(torch::tensor({{1.f, -3.f}}), tokens()).sum().item<double>(), 0.5, 1e-6);
  // MoV: gate logits [.2, .6] for t.
  MoELayer mov({.d_model = 3, .d_expert = 1, .num_experts = 2, .gate = dense("parameters"), .experts = "scale"});
  parameter(mov, "experts.scale").copy_(torch::tensor({{1., 1., 1.}, {2., 0., 1.}}));
  parameter(mov, "gate.score.weight").copy_(torch::tensor({{0., 0., .1}, {0., 0., .3}}));
  EXPECT_TRUE(all_close(mov.forward(torch::tensor({{.5f, -1.f, 2.f}}), tokens()), torch::tensor({{0.799344, -0.401312, 2.0}}), 1e-5));
}

TEST(Scale, OneExpertIsThePlainVector) {
  auto layer = layer_of("scale", "dense", 1);
  const auto t = normal({5, kIn}, 1);
  EXPECT_TRUE(torch::equal(layer.forward(t, tokens()), t * parameter(layer, "experts.scale")));
}

TEST(Scale, BeginsAsTheIdentity) {
  MoELayer exact({.d_model = kIn, .d_expert = 1, .num_experts = 1, .gate = "dense", .experts = "scale"});
  MoELayer mixed({.d_model = kIn, .d_expert = 1, .num_experts = 30, .gate = dense("parameters"), .experts = "scale"});
  const auto t = normal({50, kIn}, 1);
  EXPECT_TRUE(torch::equal(exact.forward(t, tokens()), t));
  EXPECT_TRUE(all_close(mixed.forward(t, tokens()), t, 1e-6));  // weights sum to 1 but for rounding
}

// The sparse variants of MoV mask weights and do not renormalise them: at first they shrink what they multiply.
TEST(Scale, MaskedWeightsAreNotRenormalised) {
  for (const int64_t k : {1, 2}) {
    auto gate = dense("parameters");
    *gate.options.find("select") = ConfigNode{{"kind", "top_k"}, {"k", k}};
    auto layer = layer_of("scale", gate);
    const auto t = normal({6, kIn}, 1);
    const auto p = at::softmax(at::matmul(t, parameter(layer, "gate.score.weight").t()), -1);
    const auto [top, ids] = p.topk(k, -1);
    const auto kept = torch::zeros_like(p).scatter(1, ids, top);
    EXPECT_TRUE(all_close(layer.forward(t, tokens()), t * at::matmul(kept, parameter(layer, "experts.scale")), 1e-5)) << k;
    EXPECT_LT(kept.sum(1).max().item<double>(), 1);
  }
}

TEST(Scale, GradientsEqualFiniteDifferencesInDoublePrecision) {
  for (const int64_t heads : {1, 2})
    for (const char* combine : {"outputs", "parameters"}) {
      auto layer = layer_of("scale", dense(combine), kExperts, heads);
      layer.to(torch::kFloat64);
      auto t = normal({6, kIn}, 1).to(torch::kFloat64).requires_grad_();
      const auto loss = [&] { return (layer.forward(t, tokens()) * normal({6, kIn}, 2)).sum(); };
      EXPECT_LT(finite_difference_gap(loss, t), 1e-6) << heads << combine;
      for (auto& item : layer.named_parameters()) EXPECT_LT(finite_difference_gap(loss, item.value()), 1e-6) << heads << combine << item.key();
    }
}

}  // namespace
}  // namespace switchyard::lora_test
