// Gates of sparse upcycling: experts that are copies of one network give that network's output.
#include "support/gate_fixture.h"
#include "switchyard/moe.h"

namespace switchyard::upcycling_gates_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::normal;

MoEOptions options(const char* weigh, double factor) {
  return {.d_model = 8, .d_expert = 16, .num_experts = 4,
          .gate = {"chain", {{"select", {{"kind", "expert_choice"}, {"capacity_factor", factor}}}, {"weigh", weigh}, {"allow_constant_weight", factor <= 1}}}, .init_std = 0.3, .init_out_std = 0.3};
}

// All experts equal to the first; returns that network.
torch::Tensor dense_output(MoE& moe, const torch::Tensor& x) {
  torch::NoGradGuard no_grad;
  for (auto& p : moe->experts().parameters()) p.copy_(p[0].unsqueeze(0).expand_as(p));
  return moe->experts().forward(x, torch::tensor({int64_t{0}, x.size(0), x.size(0), x.size(0), x.size(0)}, torch::kInt64), {});
}

TEST(UpcyclingGates, CopiesWithRenormalisedWeightsEqualTheDenseNetworkWhereTheyCover) {
  MoE moe(options("renormalise", 1.2));
  const auto x = normal({40, 8}, 3), dense = dense_output(moe, x);
  MoETrace trace;
  const auto y = moe->forward(x, {}, &trace);
  const auto covered = torch::zeros({40}).index_add(0, std::get<ExpertChoice>(trace.routing.choice).token_ids.reshape({-1}), torch::ones({48})) > 0;
  EXPECT_TRUE(covered.any().item<bool>());
  EXPECT_FALSE(covered.all().item<bool>());
  EXPECT_TRUE(all_close(y.index({covered}), dense.index({covered}), 1e-5));
  EXPECT_EQ(y.index({~covered}).abs().max().item<float>(), 0);
}

TEST(UpcyclingGates, FullCoverageHasNoInitialDropAndRawWeightsScaleIt) {
  MoE all(options("renormalise", 4));
  const auto x = normal({12, 8}, 4), dense = dense_output(all, x);
  EXPECT_TRUE(all_close(all->forward(x, {}), dense, 1e-5));
  MoE raw(options("raw", 1));
  const auto expected = dense_output(raw, x);
  const auto y = raw->forward(x, {});
  EXPECT_TRUE((y.norm(2, 1) <= expected.norm(2, 1) * (1 + 1e-5)).all().item<bool>());
}

TEST(UpcyclingGates, TheInitialGapGrowsWithTheShareOfUncoveredTokens) {
  double last_gap = -1, last_uncovered = -1;
  for (const double factor : {4.0, 1.0, 0.5, 0.2}) {
    MoE moe(options("renormalise", factor));
    const auto x = normal({80, 8}, 3), dense = dense_output(moe, x), y = moe->forward(x, {});
    const double uncovered = (y.abs().sum(1) == 0).to(torch::kFloat64).mean().item<double>(), gap = (y - dense).square().mean().item<double>();
    EXPECT_GT(uncovered, last_uncovered) << factor;
    EXPECT_GT(gap, last_gap) << factor;
    if (factor == 4.0) {
      EXPECT_EQ(uncovered, 0);
      EXPECT_LT(gap, 1e-10);
    }
    last_uncovered = uncovered;
    last_gap = gap;
  }
}

TEST(UpcyclingGates, EncoderGateLooksAlongTheTokensAndDecoderGateDoesNot) {
  EXPECT_EQ(MoE(options("renormalise", 2))->causality(), Causality::non_causal);
  const MoE decoder({.d_model = 8, .d_expert = 16, .num_experts = 4, .gate = {"top_k", {{"k", 2}}}, .capacity = {.factor = 1.25}});
  EXPECT_EQ(decoder->causality(), Causality::batch_dependent);
  EXPECT_EQ(MoE({.d_model = 8, .d_expert = 16, .num_experts = 4})->causality(), Causality::strict);
}

}  // namespace
}  // namespace switchyard::upcycling_gates_test
