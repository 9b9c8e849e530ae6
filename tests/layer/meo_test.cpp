// MEO: a sparse choice per sequence, one merged linear expert, a token attention in front of it.
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/model_spec.h"
#include "switchyard/moe.h"

#include <cmath>

namespace switchyard::meo_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;
using testing::finite_difference_gap;
using testing::normal;

constexpr int64_t kWidth = 8, kExperts = 5;

BlockSpec gate_of(int64_t k, const char* combine = "parameters", double init_scale = 4, const char* noise = "learned_gaussian") {
  return {"chain", {{"pool", "sequence"}, {"score", {{"kind", "linear"}, {"init_scale", init_scale}}}, {"noise", noise},
                    {"select", {{"kind", "top_k"}, {"k", k}}}, {"weigh", "renormalise"}, {"combine", combine}}};
}

MoELayer layer_of(const BlockSpec& gate, int64_t reduction = 2) {
  MoEOptions o{.d_model = kWidth, .d_expert = 1, .num_experts = kExperts, .gate = gate, .experts = {"biased_linear", {{"reduction", reduction}}}};
  o.init_std = o.init_out_std = 0.5;
  MoELayer layer(o);
  torch::NoGradGuard no_grad;
  layer.named_parameters()["experts.bias"].copy_(normal({kExperts, kWidth}, 40));
  return layer;
}

GateInput in_sequences(std::vector<int64_t> sequence, bool training = false) {
  GateInput in;
  in.sequence_ids = torch::tensor(sequence, torch::kInt64);
  in.training = training;
  return in;
}

// An attention that does something.
void wake(MoELayer& layer, uint64_t seed) {
  torch::NoGradGuard no_grad;
  auto up = layer.named_parameters()["experts.shared.up"];
  up.copy_(normal(up.sizes(), seed));
}

TEST(BiasedLinear, IsAMatrixAndAnOffsetBehindTheTokenAttention) {
  auto layer = layer_of(gate_of(2));
  wake(layer, 41);
  const auto p = layer.experts().named_parameters();
  ASSERT_EQ(p["shared.down"].sizes(), torch::IntArrayRef({kWidth / 2, kWidth}));
  const auto x = normal({6, kWidth}, 42);
  const std::vector<int64_t> ends = {0, 2, 2, 3, 5, 6};
  const auto y = layer.experts().forward(x, torch::tensor(ends, torch::kInt64), {});
  for (size_t e = 0; e + 1 < ends.size(); ++e)
    for (int64_t r = ends[e]; r < ends[e + 1]; ++r) {
      const auto seen = x[r] + at::mv(p["shared.up"], at::relu(at::mv(p["shared.down"], x[r])));
      EXPECT_TRUE(all_close(y[r], at::mv(p["weight"][static_cast<int64_t>(e)], seen) + p["bias"][static_cast<int64_t>(e)], 1e-5)) << r;
    }
}

TEST(BiasedLinear, TheTokenAttentionIsTheIdentityAtFirst) {
  auto with = layer_of(gate_of(2)), without = layer_of(gate_of(2), 0);
  EXPECT_EQ(with.named_parameters()["experts.shared.up"].abs().sum().item<double>(), 0);
  const auto x = normal({6, kWidth}, 43);
  const auto in = in_sequences({0, 0, 0, 1, 1, 1});
  EXPECT_TRUE(torch::equal(with.forward(x, in), without.forward(x, in)));
  wake(with, 44);
  EXPECT_FALSE(all_close(with.forward(x, in), without.forward(x, in), 1e-2));
  expect_error(ErrorKind::config, {"biased_linear", "reduction = 9"}, [] { (void)layer_of(gate_of(2), 9); });
}

TEST(Meo, OneMergedExpertIsTheWeightedSumOfTheOutputsOfTheChosen) {
  auto merged = layer_of(gate_of(2)), outputs = layer_of(gate_of(2, "outputs"));
  wake(merged, 45);
  wake(outputs, 45);
  const auto x = normal({9, kWidth}, 46);
  const auto in = in_sequences({0, 0, 0, 0, 1, 1, 1, 2, 2});
  EXPECT_TRUE(all_close(merged.forward(x, in), outputs.forward(x, in), 1e-5));
  auto training = in;
  training.training = true;
  EXPECT_TRUE(all_close(merged.forward(x, training), outputs.forward(x, training), 1e-5)) << "with the same noise";
  EXPECT_FALSE(all_close(merged.forward(x, training), merged.forward(x, in), 1e-3));
  // K parameters of each sequence are mixed, no more.
  auto given = in;
  given.hidden = x;
  EXPECT_TRUE(((std::get<ExpertMix>(merged.gate().route(given).choice).weights > 0).sum(1) == 2).all().item<bool>());
}

TEST(Meo, AllExpertsWithEqualWeightsAreTheMeanOfTheParameters) {
  auto layer = layer_of(gate_of(kExperts, "parameters", 0, "none"));  // a router of zeros
  const auto p = layer.experts().named_parameters();
  const auto x = normal({4, kWidth}, 47);
  const auto want = at::matmul(x, p["weight"].mean(0).t()) + p["bias"].mean(0);
  EXPECT_TRUE(all_close(layer.forward(x, in_sequences({0, 0, 1, 1})), want, 1e-5));
}

TEST(Meo, BalanceCountsSequencesWhateverTheirLength) {
  auto gate = gate_registry().make(gate_of(2), GateShape{kWidth, kExperts, 0, 1});
  // Oracle: one token per sequence, the same means, through losses of the token gate.
  auto token_gate = gate_registry().make(BlockSpec("chain", {{"score", {{"kind", "linear"}, {"init_scale", 4.0}}}, {"noise", "learned_gaussian"},
                                                             {"select", {{"kind", "top_k"}, {"k", 2}}}}), GateShape{kWidth, kExperts, 0, 1});
  const auto means = normal({4, kWidth}, 48);
  const auto x = means.repeat_interleave(torch::tensor({1, 5, 2, 3}, torch::kInt64), 0);
  for (const bool training : {false, true}) {
    auto in = in_sequences({0, 1, 1, 1, 1, 1, 2, 2, 3, 3, 3}, training);
    in.hidden = x;
    const auto got = gate->route(in);
    const auto stats = testing::stats_of(*token_gate, testing::input_of(means, training), kExperts);
    for (const char* term : {"importance", "load"})
      EXPECT_NEAR(got.terms.at(term).item<double>(), loss_registry().make(BlockSpec(term))->value(stats).item<double>(), 1e-5) << term << training;
    EXPECT_GT(got.terms.at("importance").item<double>(), 0);
  }
}

TEST(Meo, AllGradientsMatchFiniteDifferences) {
  auto layer = layer_of(gate_of(2, "parameters", 4, "none"));
  wake(layer, 49);
  layer.to(torch::kFloat64);
  auto x = normal({6, kWidth}, 50).to(torch::kFloat64).requires_grad_();
  const auto target = normal({6, kWidth}, 51).to(torch::kFloat64);
  const auto loss = [&] {
    MoETrace trace;
    const auto y = layer.forward(x, in_sequences({0, 0, 1, 1, 1, 2}), &trace);
    return (y * target).sum() + trace.routing.terms.at("importance");
  };
  EXPECT_LT(finite_difference_gap(loss, x, 48), 1e-6);
  for (const auto& item : layer.named_parameters()) EXPECT_LT(finite_difference_gap(loss, item.value()), 1e-6) << item.key();
}

TEST(Meo, CostsOneExpertPerTokenAndCountsTheTokenAttentionOnce) {
  auto layer = layer_of(gate_of(2));
  EXPECT_EQ(layer.gate().experts_per_token(), 1);
  EXPECT_EQ(layer.experts().parameters_per_expert(), kWidth * kWidth + kWidth);
  EXPECT_EQ(layer.experts().flops_per_row(), 2 * (kWidth * kWidth + 2 * kWidth * kWidth / 2));
  int64_t in_layer = 0;
  for (const auto& p : layer.parameters()) in_layer += p.numel();
  EXPECT_EQ(in_layer, kExperts * (kWidth * kWidth + kWidth) + 2 * kWidth * kWidth / 2 + 2 * kExperts * kWidth);
}

TEST(Meo, CallsWithoutTokensAndOfPaddingAlone) {
  auto layer = layer_of(gate_of(2));
  EXPECT_EQ(layer.forward(torch::zeros({0, kWidth}), in_sequences({})).size(0), 0);
  EXPECT_EQ(layer.forward(torch::ones({2, kWidth}), in_sequences({-1, -1})).abs().sum().item<double>(), 0);
}

}  // namespace
}  // namespace switchyard::meo_test
