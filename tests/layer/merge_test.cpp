// Layers that average the parameters of experts: SMEAR (per sequence), Lory (per segment).
#include "support/gate_fixture.h"
#include "switchyard/moe.h"

#include <cmath>

namespace switchyard::merge_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::ffn_expert;
using testing::finite_difference_gap;
using testing::normal;

ConfigNode segments(int64_t length) { return {{"kind", "segment"}, {"length", length}}; }

BlockSpec merging(const ConfigNode& pool, double dropout = 0, const char* combine = "parameters") {
  return {"chain", {{"pool", pool}, {"score", {{"kind", "layer_norm_linear"}, {"bias", true}, {"init_scale", 1.0}}},
                    {"noise", {{"kind", "expert_dropout"}, {"p", dropout}}}, {"select", "all"}, {"weigh", "raw"}, {"combine", combine}}};
}

MoEOptions options_of(const BlockSpec& gate, int64_t experts = 4, const char* kind = "swiglu") {
  MoEOptions o{.d_model = 6, .d_expert = 5, .num_experts = experts, .gate = gate, .experts = kind};
  o.init_std = o.init_out_std = 0.5;
  o.seed = 3;
  return o;
}

GateInput in_sequences(std::vector<int64_t> sequence, bool training = false) {
  GateInput in;
  in.sequence_ids = torch::tensor(sequence, torch::kInt64);
  in.training = training;
  return in;
}

ExpertMix mix_of(MoELayer& layer, const torch::Tensor& x, GateInput in) {
  in.hidden = x;
  return std::get<ExpertMix>(layer.gate().route(in).choice);
}

// Every token through the average of the experts by its own mix, one token at a time.
torch::Tensor merged_by_loops(MoELayer& layer, const char* kind, const torch::Tensor& x, const ExpertMix& mix) {
  const auto p = layer.named_parameters();
  const auto average = [&](const char* name) { return at::einsum("ge,eij->gij", {mix.weights, p[name]}); };
  const auto expert = ffn_expert(kind, average("experts.w_in"), average("experts.w_out"));
  std::vector<torch::Tensor> out;
  for (int64_t t = 0; t < x.size(0); ++t) {
    const auto g = mix.group_of[t].item<int64_t>();
    out.push_back(g < 0 ? torch::zeros_like(x[t]) : expert(g, x[t]));
  }
  return at::stack(out);
}

TEST(Smear, ReproducesTheScalarExampleOfMergingAndEnsembling) {
  // relu experts (w1, w2) = (1, 2) and (-1, 3) with p = (.6, .4) at x = 1.
  for (const auto& [combine, want] : {std::pair{"parameters", .48}, {"outputs", 1.2}}) {
    MoELayer layer({.d_model = 1, .d_expert = 1, .num_experts = 2, .gate = merging("sequence", 0, combine), .experts = "relu"});
    torch::NoGradGuard no_grad;
    const auto p = layer.named_parameters();
    p["gate.score.weight"].zero_();
    p["gate.score.bias"].copy_(torch::tensor({.6, .4}).log());
    p["experts.w_in"].view({-1}).copy_(torch::tensor({1., -1.}));
    p["experts.w_out"].view({-1}).copy_(torch::tensor({2., 3.}));
    EXPECT_NEAR(layer.forward(torch::ones({1, 1}), in_sequences({0})).item<double>(), want, 1e-5) << combine;
  }
}

TEST(Smear, EverySequenceHasOneAveragedExpert) {
  MoELayer layer(options_of(merging("sequence")));
  torch::NoGradGuard no_grad;
  const auto x = normal({9, 6}, 1);
  auto in = in_sequences({4, 4, 4, 1, 1, 1, 1, 7, 7});
  in.valid = torch::ones({9}, torch::kBool);
  in.valid[5] = false;
  const auto mix = mix_of(layer, x, in);
  ASSERT_EQ(mix.weights.sizes(), torch::IntArrayRef({3, 4})) << "one merge per sequence, one expert per token";
  EXPECT_EQ(layer.gate().experts_per_token(), 1);
  // Router by its definition.
  const auto p = layer.named_parameters();
  const std::vector<std::vector<int64_t>> members = {{3, 4, 6}, {0, 1, 2}, {7, 8}};
  for (int64_t g = 0; g < 3; ++g) {
    const auto mean = x.index_select(0, torch::tensor(members[static_cast<size_t>(g)], torch::kInt64)).mean(0);
    const auto r = (mean - mean.mean()) / (mean.var(false) + 1e-5).sqrt();
    EXPECT_TRUE(all_close(mix.weights[g], at::softmax(at::mv(p["gate.score.weight"], r), 0), 1e-5)) << g;
  }
  EXPECT_TRUE(all_close(layer.forward(x, in), merged_by_loops(layer, "swiglu", x, mix), 1e-5));
  EXPECT_EQ(layer.forward(x, in)[5].abs().sum().item<double>(), 0) << "padding";
}

TEST(Smear, EqualExpertsMakeTheRouterIrrelevantAndOneHotGivesThatExpert) {
  MoELayer layer(options_of(merging("sequence"), 3));
  torch::NoGradGuard no_grad;
  const auto p = layer.named_parameters();
  const auto x = normal({5, 6}, 2);
  const auto in = in_sequences({0, 0, 0, 1, 1});
  p["gate.score.weight"].zero_();
  for (int64_t e = 0; e < 3; ++e) {
    p["gate.score.bias"].zero_()[e] = 200;
    const auto expert = ffn_expert("swiglu", p["experts.w_in"], p["experts.w_out"]);
    const auto y = layer.forward(x, in);
    for (int64_t t = 0; t < 5; ++t) EXPECT_TRUE(all_close(y[t], expert(e, x[t]), 1e-5)) << e;
  }
  for (const char* name : {"experts.w_in", "experts.w_out"}) p[name].copy_(p[name].slice(0, 0, 1).expand_as(p[name]).clone());
  const auto one_hot = layer.forward(x, in);
  p["gate.score.bias"].copy_(normal({3}, 3));
  EXPECT_TRUE(all_close(layer.forward(x, in), one_hot, 1e-5));
}

TEST(Smear, MergingIsEnsemblingForLinearExpertsAndNotForOthers) {
  const auto x = normal({8, 6}, 4);
  const auto in = in_sequences({0, 0, 0, 1, 1, 1, 2, 2});
  for (const char* kind : {"linear", "relu", "swiglu"}) {
    MoELayer merged(options_of(merging("sequence"), 4, kind)), ensemble(options_of(merging("sequence", 0, "outputs"), 4, kind));
    const bool equal = all_close(merged.forward(x, in), ensemble.forward(x, in), 1e-5);
    EXPECT_EQ(equal, std::string(kind) == "linear") << kind;
  }
}

// Adapters: both matrices and both offsets are averaged.
TEST(Smear, OffsetsOfExpertsAreMergedLikeTheirMatrices) {
  for (const char* kind : {"relu", "swiglu"}) {
    auto o = options_of(merging("sequence"), 3);
    o.experts = {kind, {{"bias", true}}};
    MoELayer layer(o);
    torch::NoGradGuard no_grad;
    const auto p = layer.experts().named_parameters();
    for (const char* name : {"b_in", "b_out"}) p[name].copy_(normal(p[name].sizes(), name[2]));
    const auto x = normal({5, 6}, 15);
    const auto in = in_sequences({0, 0, 1, 1, 1});
    const auto mix = mix_of(layer, x, in);
    const auto average = [&](const char* name, int64_t g) { return at::tensordot(mix.weights[g], p[name], {0}, {0}); };
    const auto y = layer.forward(x, in);
    for (int64_t t = 0; t < 5; ++t) {
      const auto g = mix.group_of[t].item<int64_t>();
      auto h = at::mv(average("w_in", g), x[t]) + average("b_in", g);
      h = std::string(kind) == "relu" ? at::relu(h) : at::silu(h.slice(0, 0, 5)) * h.slice(0, 5);
      EXPECT_TRUE(all_close(y[t], at::mv(average("w_out", g), h) + average("b_out", g), 1e-5)) << kind << t;
    }
    int64_t built = 0;
    for (const auto& q : layer.experts().parameters()) built += q.numel();
    EXPECT_EQ(layer.experts().parameters_per_expert() * 3, built);
  }
}

TEST(Smear, AllGradientsMatchFiniteDifferences) {
  auto o = options_of(merging("sequence"), 3);
  o.experts = {"swiglu", {{"bias", true}}};
  MoELayer layer(o);
  layer.to(torch::kFloat64);
  auto x = normal({6, 6}, 5).to(torch::kFloat64).requires_grad_();
  const auto target = normal({6, 6}, 6).to(torch::kFloat64);
  const auto loss = [&] { return (layer.forward(x, in_sequences({0, 0, 1, 1, 1, 1})) * target).sum(); };
  EXPECT_LT(finite_difference_gap(loss, x, 36), 1e-6);
  for (const auto& item : layer.named_parameters()) EXPECT_LT(finite_difference_gap(loss, item.value()), 1e-6) << item.key();
}

TEST(ExpertDropoutOfChoices, DropsEachExpertWithItsChanceAndRenormalisesTheRest) {
  MoELayer layer(options_of(merging("sequence", 0.3), 8));
  std::vector<int64_t> sequence(4000);
  for (size_t t = 0; t < sequence.size(); ++t) sequence[t] = static_cast<int64_t>(t);
  const auto x = normal({4000, 6}, 7);
  const auto quiet = mix_of(layer, x, in_sequences(sequence)).weights;
  EXPECT_TRUE((quiet > 0).all().item<bool>()) << "off outside training";
  const auto noisy = mix_of(layer, x, in_sequences(sequence, true)).weights;
  const auto kept = (noisy > 0).to(torch::kFloat32);
  EXPECT_NEAR(1 - kept.mean().item<double>(), 0.3, 4 * std::sqrt(0.3 * 0.7 / 32000));
  EXPECT_TRUE(all_close(noisy, quiet * kept / (quiet * kept).sum(1, true), 1e-5));
  // The draw belongs to the unit: the second half alone has the same.
  auto half = in_sequences(std::vector<int64_t>(sequence.begin() + 2000, sequence.end()), true);
  half.first_token = 2000;
  EXPECT_TRUE(torch::equal(mix_of(layer, x.slice(0, 2000), half).weights, noisy.slice(0, 2000)));
}

TEST(ExpertDropoutOfChoices, AUnitNeverLosesAllExperts) {
  MoELayer layer(options_of(merging("sequence", 0.95), 2));
  const auto noisy = mix_of(layer, normal({200, 6}, 8), [] {
    auto in = in_sequences({}, true);
    in.sequence_ids = torch::arange(200, torch::kInt64);
    return in;
  }()).weights;
  EXPECT_TRUE(all_close(noisy.sum(1), torch::ones({200}), 1e-6));
  EXPECT_GT((noisy > 0).all(1).sum().item<int64_t>(), 100) << "those that lost both keep both";
}

// Lory -------------------------------------------------------------------------------------------------------------------

TEST(Lory, NoOutputDependsOnLaterTokensExceptInTheFirstSegment) {
  MoELayer layer(options_of(merging(segments(4))));
  torch::NoGradGuard no_grad;
  // Two sequences of 14 tokens, one after the other: segments of 4, 4, 4 and 2.
  std::vector<int64_t> sequence(28);
  for (size_t t = 14; t < 28; ++t) sequence[t] = 1;
  const auto x = normal({28, 6}, 9);
  const auto y = layer.forward(x, in_sequences(sequence));
  for (int64_t t = 0; t < 14; ++t) {
    auto other = x.clone();
    other[t] = -other[t];  // a constant shift would be lost in the LayerNorm of the router
    const auto got = layer.forward(other, in_sequences(sequence));
    const auto changed = [&](int64_t u) { return !torch::equal(got[u], y[u]); };
    for (int64_t u = 0; u < 28; ++u) {
      if (u == t) EXPECT_TRUE(changed(u));
      else if (u >= 14) EXPECT_FALSE(changed(u)) << "another sequence";
      else if (t < 4 && u < 4) EXPECT_TRUE(changed(u)) << "the first segment sees itself";
      else EXPECT_EQ(changed(u), u / 4 == t / 4 + 1) << "token " << t << " reaches token " << u;
    }
  }
  EXPECT_TRUE(layer.gate().looks_ahead()) << "because of the first segment";
}

TEST(Lory, NoGradientFlowsThroughTheRouteOfTheFirstSegment) {
  MoELayer layer(options_of(merging(segments(3))));
  const auto gradient_of = [&](int64_t segment) {
    auto x = normal({9, 6}, 10).requires_grad_();
    const auto mix = mix_of(layer, x, in_sequences(std::vector<int64_t>(9, 0)));
    ((mix.weights[segment] * normal({4}, 11)).sum() + 0 * x.sum()).backward();
    return x.grad().abs().sum(1) > 0;
  };
  EXPECT_FALSE(gradient_of(0).any().item<bool>());
  for (int64_t s : {1, 2})
    for (int64_t t = 0; t < 9; ++t) EXPECT_EQ(gradient_of(s)[t].item<bool>(), t / 3 == s - 1) << "segment " << s << " token " << t;
}

TEST(Lory, SegmentsAsLongAsTheSequenceMergeLikeSmear) {
  MoELayer lory(options_of(merging(segments(16)))), smear(options_of(merging("sequence")));
  const auto x = normal({11, 6}, 12);
  const auto in = in_sequences({0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1});
  EXPECT_TRUE(torch::equal(lory.forward(x, in), smear.forward(x, in)));
  MoELayer shorter(options_of(merging(segments(5))));
  EXPECT_FALSE(all_close(shorter.forward(x, in), smear.forward(x, in), 1e-3));
}

TEST(Lory, OneExpertIsTheDenseNetwork) {
  MoELayer layer(options_of(merging(segments(4)), 1));
  const auto x = normal({10, 6}, 13);
  const auto dense = layer.experts().forward(x, torch::tensor({int64_t{0}, int64_t{10}}, torch::kInt64), {});
  EXPECT_TRUE(all_close(layer.forward(x, in_sequences(std::vector<int64_t>(10, 0))), dense, 1e-6));
}

TEST(Merging, TheRowsOfABatchAreItsSequences) {
  MoELayer layer(options_of(merging("sequence")));
  layer.eval();
  const auto x = normal({2, 3, 6}, 14);
  EXPECT_TRUE(torch::equal(layer(x).hidden, layer.forward(x, in_sequences({0, 0, 0, 1, 1, 1}))));
}

TEST(Merging, CallsWithoutTokensAndOfPaddingAlone) {
  for (const ConfigNode& pool : {ConfigNode("sequence"), segments(4)}) {
    MoELayer layer(options_of(merging(pool)));
    EXPECT_EQ(layer.forward(torch::zeros({0, 6}), in_sequences({})).size(0), 0);
    auto in = in_sequences({-1, -1, -1});
    in.valid = torch::zeros({3}, torch::kBool);
    EXPECT_EQ(layer.forward(torch::ones({3, 6}), in).abs().sum().item<double>(), 0);
  }
}

}  // namespace
}  // namespace switchyard::merge_test
