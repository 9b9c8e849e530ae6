// What the entries of published gates promise, on the blocks that they are made of.
#include "core/chain_gate.h"
#include "support/moe_oracle.h"
#include "switchyard/dispatch_plan.h"

namespace switchyard::published_gates_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;

torch::Tensor noise(torch::IntArrayRef shape, uint64_t seed) {
  auto x = torch::empty(shape);
  RandomStream(seed).fill_normal(x.data_ptr<float>(), x.numel());
  return x;
}

GateInput input_of(const torch::Tensor& hidden) {
  GateInput in;
  in.hidden = hidden;
  return in;
}

std::shared_ptr<Gate> make(const BlockSpec& spec, int64_t num_experts) {
  return gate_registry().make(spec, GateShape{12, num_experts, 0, 1});
}

BlockSpec chain(int64_t k, const char* weigh) {
  return {"chain", {{"select", {{"kind", "top_k"}, {"k", k}}}, {"weigh", weigh}, {"allow_constant_weight", true}}};
}

TokenChoice choose(Gate& gate, const torch::Tensor& x) { return std::get<TokenChoice>(gate.route(input_of(x)).choice); }

TEST(NormalisationOrder, BothOrdersAgreeInFloat64) {
  const auto x = noise({100, 12}, 3).to(torch::kFloat64) * 2;
  for (int64_t k : {1, 2, 5, 8}) {
    auto first = make(chain(k, "renormalise"), 8), second = make(chain(k, "softmax_chosen"), 8);
    first->to(torch::kFloat64);
    second->to(torch::kFloat64);
    const auto a = choose(*first, x), b = choose(*second, x);
    EXPECT_TRUE(torch::equal(a.expert_ids, b.expert_ids));
    EXPECT_TRUE(all_close(a.weights, b.weights, 1e-12)) << k;
  }
}

TEST(NormalisationOrder, OneChoiceWithWeightOneGivesTheRouterNoGradient) {
  const auto x = noise({50, 12}, 3), value = noise({50, 1}, 4);
  const auto gradient = [&](const char* weigh) {
    auto gate = make(chain(1, weigh), 8);
    (choose(*gate, x).weights * value).sum().backward();
    return gate->named_parameters()["score.weight"].grad().abs().max().item<double>();
  };
  EXPECT_EQ(gradient("softmax_chosen"), 0);
  EXPECT_LT(gradient("renormalise"), 1e-6);  // p / p by its two partial derivatives, which round apart
  EXPECT_GT(gradient("raw"), 1e-2);
}

// The presets of Table 1: what each publishes, and the generic chain with the same switches.
struct Preset {
  const char* name;
  int64_t experts, k;
  bool renormalise;
};

class MixtralGate : public ::testing::TestWithParam<Preset> {};

TEST_P(MixtralGate, EqualsTheGenericChainBitForBit) {
  const auto p = GetParam();
  const auto x = noise({64, 12}, 5);
  const auto preset = choose(*make({"top_k", {{"k", p.k}, {"renormalise", p.renormalise}}}, p.experts), x);
  const auto generic = choose(*make(chain(p.k, p.renormalise ? "renormalise" : "raw"), p.experts), x);
  EXPECT_TRUE(torch::equal(preset.expert_ids, generic.expert_ids));
  EXPECT_TRUE(torch::equal(preset.weights, generic.weights));
}

TEST_P(MixtralGate, WeightsSumToOneOrLess) {
  const auto p = GetParam();
  const auto w = choose(*make({"top_k", {{"k", p.k}, {"renormalise", p.renormalise}}}, p.experts), noise({64, 12}, 5)).weights;
  if (p.renormalise) {
    EXPECT_TRUE(all_close(w.sum(1), torch::ones({64}), 1e-6));
    EXPECT_TRUE(all_close(w, w / w.norm(1, 1, /*keepdim=*/true), 1e-7));  // DBRX says: divided by the L1 norm
  } else {
    EXPECT_TRUE(w.sum(1).lt(1).all().item<bool>());
  }
}

TEST_P(MixtralGate, DroplessKeepsEveryChoice) {
  const auto p = GetParam();
  const auto in = input_of(noise({64, 12}, 5));
  const auto planned = plan_dispatch(make({"top_k", {{"k", p.k}, {"renormalise", p.renormalise}}}, p.experts)->route(in), in, p.experts, {}, nullptr);
  const auto s = routing_stats(planned.routing, planned.plan.kept, in, 0, p.experts);
  EXPECT_TRUE(torch::equal(s.counts, s.kept_counts));
  EXPECT_EQ(planned.plan.num_rows(), 64 * p.k);
  const auto& offsets = planned.plan.offsets;
  EXPECT_TRUE(torch::equal((offsets.slice(0, 1) - offsets.slice(0, 0, p.experts)).to(torch::kFloat32), s.counts));
}

INSTANTIATE_TEST_SUITE_P(Presets, MixtralGate,
                         ::testing::Values(Preset{"mixtral", 8, 2, true}, Preset{"dbrx", 16, 4, true}, Preset{"jamba", 16, 2, false},
                                           Preset{"glam", 64, 2, true}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace switchyard::published_gates_test
