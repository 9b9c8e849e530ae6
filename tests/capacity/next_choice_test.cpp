// No token left behind, against a loop over the definition.
#include "core/registries.h"
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/dispatch_plan.h"
#include "switchyard/moe.h"

namespace switchyard::next_choice_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::fixture_logits;
using testing::normal;

Planned plan(const torch::Tensor& z, int64_t k, double factor, int64_t tries) {
  GateInput in;
  in.hidden = torch::zeros({z.size(0), 1});
  in.training = true;
  CapacityOptions o;
  o.factor = factor;
  o.overflow = "next_choice";
  o.tries = tries;
  const auto ids = std::get<1>(at::sort(z.detach(), true, 1, true)).slice(1, 0, k).contiguous();
  const auto p = at::softmax(z, 1);
  return plan_dispatch({.choice = TokenChoice{ids, p.gather(1, ids)}, .scores = {z, p}}, in, z.size(1), o, priority_registry().make("arrival").get());
}

TEST(NextChoice, EqualsTheLoopOverRounds) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto z = normal({30, 5}, seed) * 2;
    const int64_t tries = 1 + static_cast<int64_t>(seed % 5), capacity = 6;
    const auto got = plan(z, 1, 1.0, tries);
    const auto ranked = std::get<1>(at::sort(z, true, 1, true));
    std::vector<int64_t> place(30, -1), load(5, 0);
    for (int64_t round = 0; round < tries; ++round)
      for (size_t t = 0; t < 30; ++t) {
        const auto e = static_cast<size_t>(ranked[static_cast<int64_t>(t)][round].item<int64_t>());
        if (place[t] < 0 && load[e] < capacity) place[t] = static_cast<int64_t>(e), ++load[e];
      }
    const auto& choice = std::get<TokenChoice>(got.routing.choice);
    const auto p = at::softmax(z, 1);
    for (int64_t t = 0; t < 30; ++t) {
      EXPECT_EQ(got.plan.kept[t][0].item<bool>(), place[static_cast<size_t>(t)] >= 0) << seed << " token " << t;
      if (place[static_cast<size_t>(t)] < 0) continue;
      EXPECT_EQ(choice.expert_ids[t][0].item<int64_t>(), place[static_cast<size_t>(t)]);
      EXPECT_EQ(choice.weights[t][0].item<float>(), p[t][place[static_cast<size_t>(t)]].item<float>());
    }
    if (tries == 5) {
      EXPECT_TRUE(got.plan.kept.all().item<bool>()) << "as many places as tokens: nobody is left behind";
    }
  }
}

TEST(NextChoice, StatisticsCountWhatWasAskedForFirst) {
  MoE layer({.d_model = 4, .d_expert = 8, .num_experts = 4, .gate = {"chain", {{"select", {{"kind", "top_k"}, {"k", 1}}}, {"weigh", "raw"}}},
             .capacity = {.factor = 1, .overflow = "next_choice", .tries = 4}});
  {
    torch::NoGradGuard no_grad;
    layer->gate().named_parameters()["score.weight"].copy_(at::eye(4));
  }
  GateInput in;
  in.training = true;
  MoETrace trace;
  (void)layer->forward(fixture_logits(), in, &trace);
  EXPECT_TRUE(torch::equal(trace.stats.counts, torch::tensor({3.f, 1.f, 1.f, 1.f})));
  EXPECT_EQ(trace.stats.kept_counts.sum().item<float>(), 6);
  EXPECT_LE(trace.stats.kept_counts.max().item<float>(), 2);
}

TEST(NextChoice, TheWeightOfTheUsedExpertCarriesGradientAndMoreThanOneChoiceIsRefused) {
  auto z = (normal({12, 3}, 4) * 0.1 + torch::tensor({2.f, 0.f, 0.f})).requires_grad_();
  const auto got = plan(z, 1, 1.0, 3);
  const auto& choice = std::get<TokenChoice>(got.routing.choice);
  EXPECT_TRUE(choice.expert_ids.ne(0).any().item<bool>());
  choice.weights.sum().backward();
  EXPECT_TRUE(z.grad().abs().sum(1).gt(0).all().item<bool>());
  testing::expect_error(ErrorKind::config, {"next_choice", "one expert"}, [&] { (void)plan(z, 2, 1.0, 3); });
}

}  // namespace
}  // namespace switchyard::next_choice_test
