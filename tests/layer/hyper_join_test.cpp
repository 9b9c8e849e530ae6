// HyperMoE: networks made from the experts that a token did not choose (arXiv:2402.12656).
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/moe.h"

namespace switchyard::hyper_join_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::normal;

BlockSpec hyper(double head_scale = 1.0) {
  return {"hyper", {{"embedding", 6}, {"hidden", 7}, {"layer_embedding", 3}, {"bottleneck", 4}, {"head_scale", head_scale}}};
}

MoEOptions options_of(const BlockSpec& join, int64_t k = 2, int64_t layer = 0) {
  MoEOptions o{.d_model = 12, .d_expert = 8, .num_experts = 5, .gate = {"top_k", {{"k", k}, {"renormalise", false}}}, .join = join};
  o.init_std = o.init_out_std = 0.5;
  o.layer = layer;
  o.seed = 7;
  return o;
}

// Oracle: one token at a time.
torch::Tensor made_by_loops(MoELayer& layer, const torch::Tensor& x, const torch::Tensor& ids) {
  std::map<std::string, torch::Tensor> p;
  for (const auto& item : layer.join()->named_parameters()) p[item.key()] = item.value().detach();
  const auto w = [&](const char* name) { return p.at(std::string("network.") + name); };
  std::vector<torch::Tensor> rows;
  for (int64_t t = 0; t < x.size(0); ++t) {
    auto sum = torch::zeros_like(p["embeddings"][0]);
    for (int64_t e = 0; e < p["embeddings"].size(0); ++e)
      if (!(ids[t] == e).any().item<bool>()) sum = sum + p["embeddings"][e];
    const auto inner = at::mv(w("process_2"), at::relu(at::mv(w("process_1"), sum) + w("process_1_bias"))) + w("process_2_bias");
    const auto q = at::relu(at::mv(w("input"), at::cat({inner, p["layer"]})) + w("input_bias"));
    const auto down = at::mv(w("down"), q).view({4, 12}), up = at::mv(w("up"), q).view({12, 4});
    rows.push_back(at::mv(up, at::relu(at::mv(down, x[t]) + at::mv(w("down_bias"), q))) + at::mv(w("up_bias"), q));
  }
  return at::stack(rows);
}

void set_biases(MoELayer& layer) {
  const torch::NoGradGuard no_grad;
  for (auto& item : layer.join()->named_parameters())
    if (item.key().find("_bias") != std::string::npos) item.value().copy_(normal(item.value().sizes(), 11));
}

TEST(HyperMoe, AddsTheNetworkOfTheUnselectedExperts) {
  for (const int64_t k : {1, 2, 5}) {
    MoELayer layer(options_of(hyper(), k)), host(options_of("sum", k));
    set_biases(layer);
    const torch::NoGradGuard no_grad;
    const auto x = normal({17, 12}, 1);
    MoETrace trace;
    const auto y = layer.forward(x, GateInput{}, &trace);
    EXPECT_TRUE(all_close(y, host(x).hidden + made_by_loops(layer, x, std::get<TokenChoice>(trace.routing.choice).expert_ids), 1e-5)) << k;
  }
}

TEST(HyperMoe, HeadsOfZeroLeaveTheHostBitForBit) {
  MoELayer layer(options_of(hyper(0))), host(options_of("sum"));
  const torch::NoGradGuard no_grad;
  const auto x = normal({17, 12}, 1);
  EXPECT_TRUE(torch::equal(layer(x).hidden, host(x).hidden));
}

// The same input at every place, so that equal sets must give equal rows whatever the order of choice.
TEST(HyperMoe, TokensWithTheSameSetHaveTheSameNetwork) {
  MoELayer layer(options_of(hyper()));
  const torch::NoGradGuard no_grad;
  const auto x = normal({1, 12}, 1).expand({4, 12}).contiguous();
  const TokenChoice choice{testing::ids_of({{0, 3}, {3, 0}, {0, 1}, {-1, 3}}), torch::zeros({4, 2})};  // weights of zero: the made network alone
  const auto y = layer.apply(x, GateInput{}, {.choice = choice});
  EXPECT_TRUE(torch::equal(y[0], y[1]));
  EXPECT_FALSE(torch::equal(y[0], y[2]));
  EXPECT_FALSE(torch::equal(y[0], y[3]));
  EXPECT_TRUE(all_close(y, made_by_loops(layer, x, choice.expert_ids), 1e-5));
}

TEST(HyperMoe, PaddingGetsNothing) {
  MoELayer layer(options_of(hyper()));
  set_biases(layer);
  GateInput in;
  in.valid = torch::tensor({true, false, true});
  const torch::NoGradGuard no_grad;
  EXPECT_EQ(layer.forward(normal({3, 12}, 1), in)[1].abs().max().item<float>(), 0);
}

TEST(HyperMoe, StandsBesideSharedExperts) {
  auto o = options_of(hyper(0)), plain = options_of("sum");
  o.num_shared_experts = plain.num_shared_experts = 1;
  MoELayer layer(o), host(plain);
  const torch::NoGradGuard no_grad;
  const auto x = normal({9, 12}, 1);
  EXPECT_TRUE(torch::equal(layer(x).hidden, host(x).hidden));
}

TEST(HyperMoe, LayersShareOneHypernetworkAndKeepTheirOwnEmbeddings) {
  MoELayer first(options_of(hyper(), 2, 0)), second(options_of(hyper(), 2, 1));
  second.join()->share(*first.join());
  const auto a = first.join()->named_parameters(), b = second.join()->named_parameters();
  ASSERT_EQ(a.size(), b.size());
  int64_t common = 0;
  for (const auto& item : a) {
    const bool shared = item.key().rfind("network.", 0) == 0;
    if (shared) common += item.value().numel();
    EXPECT_EQ(b[item.key()].is_same(item.value()), shared) << item.key();
    EXPECT_EQ(torch::equal(b[item.key()], item.value()), shared) << item.key();
  }
  EXPECT_EQ(first.join()->common_parameters(), common);
  // One gradient from both.
  const auto x = normal({9, 12}, 1);
  const auto grad = [&](std::vector<MoELayer*> layers) {
    for (auto& p : first.join()->parameters()) p.mutable_grad() = torch::Tensor();
    for (auto* layer : layers) (*layer)(x).hidden.square().sum().backward();
    return a["network.down"].grad().clone();
  };
  EXPECT_TRUE(all_close(grad({&first, &second}), grad({&first}) + grad({&second}), 1e-5));
  auto other = options_of(hyper());
  *other.join.options.find("bottleneck") = int64_t{5};
  MoELayer unlike(other);
  testing::expect_error(ErrorKind::config, {"hyper", "options differ"}, [&] { unlike.join()->share(*first.join()); });
}

TEST(HyperMoe, GradientsMatchFiniteDifferencesInFloat64) {
  MoELayer layer(options_of(hyper()));
  set_biases(layer);
  layer.to(torch::kFloat64);
  const auto x = normal({9, 12}, 8).to(torch::kFloat64), dy = normal({9, 12}, 9).to(torch::kFloat64);
  const auto loss = [&] { return (layer(x).hidden * dy).sum(); };
  for (auto& item : layer.named_parameters()) {
    for (auto& p : layer.parameters()) p.mutable_grad() = torch::Tensor();
    EXPECT_LT(testing::finite_difference_gap(loss, item.value()), 1e-4) << item.key();
  }
}

TEST(HyperMoe, WhatMakesNoSenseIsRefused) {
  auto o = options_of(hyper());
  *o.join.options.find("bottleneck") = int64_t{0};
  testing::expect_error(ErrorKind::config, {"bottleneck = 0"}, [&] { MoELayer layer(o); });
  auto mixed = options_of(hyper());
  mixed.gate = {"chain", {{"combine", "parameters"}, {"select", "all"}}};
  MoELayer layer(mixed);
  testing::expect_error(ErrorKind::unsupported, {"hyper", "did not choose"}, [&] { (void)layer(normal({3, 12}, 1)); });
}

}  // namespace
}  // namespace switchyard::hyper_join_test
