#include "core/registries.h"
#include "support/moe_oracle.h"
#include "switchyard/dispatch_plan.h"

#include <algorithm>
#include <map>
#include <set>

namespace switchyard {
namespace {

using testing::fixture_logits;
using Pairs = std::set<std::pair<int64_t, int64_t>>;

TokenChoice top(const torch::Tensor& z, int64_t k) {
  const auto ids = std::get<1>(at::sort(z, true, 1, true)).slice(1, 0, k).contiguous();
  return {ids, at::softmax(z, 1).gather(1, ids)};
}

Planned plan(const torch::Tensor& z, int64_t k, CapacityOptions o, bool training = true, uint64_t seed = 0) {
  GateInput in;
  in.hidden = torch::zeros({z.size(0), 1});
  in.training = training;
  in.random = RandomStream(seed);
  return plan_dispatch({.choice = top(z, k), .scores = {z, at::softmax(z, 1)}}, in, z.size(1), o, priority_registry().make(o.priority).get());
}

// Capacity C exactly: factor such that ceil(factor * k * T / E) = C.
CapacityOptions exactly(int64_t c, int64_t k, int64_t tokens, int64_t experts, const char* priority = "arrival") {
  CapacityOptions o;
  o.factor = static_cast<double>(c * experts) / static_cast<double>(k * tokens);
  o.priority = priority;
  return o;
}

Pairs dropped(const Planned& p) {
  Pairs out;
  const auto& ids = std::get<TokenChoice>(p.routing.choice).expert_ids;
  for (int64_t t = 0; t < ids.size(0); ++t)
    for (int64_t j = 0; j < ids.size(1); ++j)
      if (!p.plan.kept[t][j].item<bool>()) out.insert({t, j});
  return out;
}

TEST(Arrival, DropsTheWorkedExamplesOfGshardAndSwitch) {
  const auto z = fixture_logits();
  EXPECT_EQ(dropped(plan(z, 1, exactly(1, 1, 6, 4))), (Pairs{{2, 0}, {4, 0}}));
  EXPECT_EQ(dropped(plan(z, 1, exactly(2, 1, 6, 4))), (Pairs{{4, 0}}));
  EXPECT_EQ(dropped(plan(z, 2, exactly(2, 2, 6, 4))), (Pairs{{4, 0}, {1, 1}, {4, 1}, {5, 1}}));
  EXPECT_EQ(dropped(plan(z, 2, exactly(3, 2, 6, 4))), (Pairs{{1, 1}, {5, 1}}));
}

TEST(Score, DropsTheWorkedExamplesOfBatchPrioritizedRouting) {
  const auto z = fixture_logits();
  EXPECT_EQ(dropped(plan(z, 1, exactly(1, 1, 6, 4, "score"))), (Pairs{{0, 0}, {4, 0}}));
  EXPECT_EQ(dropped(plan(z, 2, exactly(2, 2, 6, 4, "score"))), (Pairs{{4, 0}, {5, 1}, {4, 1}, {1, 1}}));
}

TEST(Score, PermutingTheBatchPermutesThePlan) {
  const auto z = fixture_logits();
  const auto order = torch::tensor({4, 2, 0, 5, 1, 3}, torch::kInt64);
  const auto o = exactly(1, 1, 6, 4, "score");
  EXPECT_TRUE(torch::equal(plan(z.index_select(0, order), 1, o).plan.kept, plan(z, 1, o).plan.kept.index_select(0, order)));
}

TEST(Score, KeepsTheBestOfEveryRankAndIsArrivalWithoutOverflow) {
  auto z = torch::empty({61, 7});
  RandomStream(8).fill_normal(z.data_ptr<float>(), z.numel());
  const auto score = std::get<0>(at::softmax(z, 1).max(1));
  const auto tight = plan(z, 2, exactly(5, 2, 61, 7, "score"));
  const auto& ids = std::get<TokenChoice>(tight.routing.choice).expert_ids;
  for (int64_t e = 0; e < 7; ++e)
    for (int64_t rank = 0; rank < 2; ++rank) {
      const auto mine = ids.select(1, rank) == e, kept = tight.plan.kept.select(1, rank);
      const auto in = score.index({mine & kept}), out = score.index({mine & ~kept});
      if (in.numel() > 0 && out.numel() > 0) {
        EXPECT_GE(in.min().item<float>(), out.max().item<float>()) << "expert " << e << " rank " << rank;
      }
    }
  EXPECT_TRUE(torch::equal(plan(z, 2, exactly(61, 2, 61, 7, "score")).plan.kept, plan(z, 2, exactly(61, 2, 61, 7)).plan.kept));
}

// Oracle: every order of six tokens, each served in turn.
TEST(Score, NoOrderKeepsMoreProbability) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    auto z = torch::empty({6, 3});
    RandomStream(seed).fill_normal(z.data_ptr<float>(), z.numel());
    const auto ids = z.argmax(1);
    const auto p = std::get<0>(at::softmax(z, 1).max(1));
    const auto value = [&](const torch::Tensor& kept) { return (p * kept.to(torch::kFloat32)).sum().item<float>(); };
    std::vector<int64_t> order = {0, 1, 2, 3, 4, 5};
    float best = 0;
    do {
      std::vector<int64_t> room(3, 1);
      auto kept = torch::zeros({6});
      for (const int64_t t : order)
        if (room[static_cast<size_t>(ids[t].item<int64_t>())]-- > 0) kept[t] = 1;
      best = std::max(best, value(kept));
    } while (std::next_permutation(order.begin(), order.end()));
    EXPECT_NEAR(value(plan(z, 1, exactly(1, 1, 6, 3, "score")).plan.kept.select(1, 0)), best, 1e-6) << seed;
    EXPECT_LE(value(plan(z, 1, exactly(1, 1, 6, 3)).plan.kept.select(1, 0)), best + 1e-6) << seed;
  }
}

// GShard draws which second choices are asked for: the first ones do not notice.
TEST(Arrival, KeptFirstChoicesDoNotDependOnTheSecond) {
  auto z = torch::empty({40, 4});
  RandomStream(5).fill_normal(z.data_ptr<float>(), z.numel());
  const auto first_kept = [&](uint64_t draw, const char* priority) {
    auto choice = top(z, 2);
    for (int64_t t = 0; t < 40; ++t)
      if (RandomStream(draw).uniform(static_cast<uint64_t>(t)) < 0.5) choice.expert_ids[t][1] = -1;
    GateInput in;
    in.hidden = torch::zeros({40, 1});
    in.training = true;
    const auto o = exactly(7, 2, 40, 4, priority);
    return plan_dispatch({.choice = choice, .scores = {z, at::softmax(z, 1)}}, in, 4, o, priority_registry().make(priority).get()).plan.kept.select(1, 0).clone();
  };
  for (const char* priority : {"arrival", "score"}) {
    EXPECT_FALSE(first_kept(0, priority).all().item<bool>());
    for (uint64_t draw = 1; draw < 20; ++draw) EXPECT_TRUE(torch::equal(first_kept(draw, priority), first_kept(0, priority))) << priority;
  }
}

TEST(Random, KeepsEachRequesterEquallyOftenAndFollowsArrivalOutsideTraining) {
  const auto z = torch::zeros({8, 2});  // all eight tokens ask for expert 0
  const auto o = exactly(3, 1, 8, 2, "random");
  auto times = torch::zeros({8});
  const int runs = 4000;
  for (int s = 0; s < runs; ++s) {
    const auto kept = plan(z, 1, o, true, static_cast<uint64_t>(s)).plan.kept.squeeze(1);
    ASSERT_EQ(kept.sum().item<int64_t>(), 3);
    times += kept.to(torch::kFloat32);
  }
  const double p = 3.0 / 8, sigma = std::sqrt(p * (1 - p) / runs);
  for (int64_t t = 0; t < 8; ++t) EXPECT_NEAR(times[t].item<double>() / runs, p, 4 * sigma) << t;
  auto eval = o;
  eval.eval_factor = o.factor;
  EXPECT_EQ(dropped(plan(z, 1, eval, false)), (Pairs{{3, 0}, {4, 0}, {5, 0}, {6, 0}, {7, 0}}));
}

class EveryPriority : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryPriority, KeepsTheLesserOfDemandAndCapacityAndFirstChoicesBeforeSecond) {
  auto z = torch::empty({61, 7});
  RandomStream(8).fill_normal(z.data_ptr<float>(), z.numel());
  z.select(1, 2).add_(1.5);  // one popular expert
  for (int64_t c : {1, 5, 12, 200}) {
    const auto p = plan(z, 3, exactly(c, 3, 61, 7, GetParam()));
    const auto& ids = std::get<TokenChoice>(p.routing.choice).expert_ids;
    for (int64_t e = 0; e < 7; ++e) {
      const auto mine = ids == e;
      const auto kept = (mine & p.plan.kept).sum().item<int64_t>();
      EXPECT_EQ(kept, std::min(c, mine.sum().item<int64_t>()));
      const auto dropped_first = (mine & ~p.plan.kept).select(1, 0).any().item<bool>();
      const auto kept_later = (mine & p.plan.kept).slice(1, 1).any().item<bool>();
      EXPECT_FALSE(dropped_first && kept_later) << "expert " << e << " capacity " << c;
    }
    if (c == 200) {
      EXPECT_TRUE(dropped(p).empty());
    }
  }
}

TEST_P(EveryPriority, GroupsCompeteAmongThemselvesOnly) {
  auto z = torch::empty({24, 4});
  RandomStream(8).fill_normal(z.data_ptr<float>(), z.numel());
  auto o = exactly(2, 1, 8, 4, GetParam());
  o.group_size = 8;
  const auto whole = plan(z, 1, o);
  for (int64_t g = 0; g < 3; ++g) {
    if (std::string(GetParam()) == "random") {  // its draws follow the global token index
      EXPECT_EQ(whole.plan.kept.slice(0, 8 * g, 8 * g + 8).size(0), 8);
      continue;
    }
    EXPECT_TRUE(torch::equal(plan(z.slice(0, 8 * g, 8 * g + 8).contiguous(), 1, exactly(2, 1, 8, 4, GetParam())).plan.kept,
                             whole.plan.kept.slice(0, 8 * g, 8 * g + 8)));
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryPriority, ::testing::Values("arrival", "score", "random"));

TEST(PlanDispatch, RowsAreTheStableSortOfPairsAndTheInverseInverts) {
  auto z = torch::empty({29, 6});
  RandomStream(8).fill_normal(z.data_ptr<float>(), z.numel());
  auto choice = top(z, 3);
  choice.expert_ids[4].fill_(-1);
  choice.expert_ids[7][1] = -1;
  GateInput in;
  in.hidden = torch::zeros({29, 1});
  const auto p = plan_dispatch({.choice = choice}, in, 6, {}, nullptr).plan;
  EXPECT_EQ(p.num_rows(), 29 * 3 - 4);
  std::vector<std::tuple<int64_t, int64_t, int64_t>> want;
  for (int64_t t = 0; t < 29; ++t)
    for (int64_t j = 0; j < 3; ++j)
      if (const auto e = choice.expert_ids[t][j].item<int64_t>(); e >= 0) want.emplace_back(e, t, j);
  std::sort(want.begin(), want.end());
  for (int64_t r = 0; r < p.num_rows(); ++r) {
    const auto [e, t, j] = want[static_cast<size_t>(r)];
    EXPECT_EQ(p.row_token[r].item<int64_t>(), t);
    EXPECT_EQ(p.row_weight_index[r].item<int64_t>(), t * 3 + j);
    EXPECT_EQ(p.row_of_pair[t * 3 + j].item<int64_t>(), r);
    EXPECT_GE(r, p.offsets[e].item<int64_t>());
    EXPECT_LT(r, p.offsets[e + 1].item<int64_t>());
  }
  EXPECT_EQ((p.row_of_pair < 0).sum().item<int64_t>(), 4);
}

TEST(Capacity, FollowsTheFormulaAndItsRounding) {
  CapacityOptions o;
  o.factor = 1.25;
  EXPECT_EQ(capacity_of(o, 8, 2, 4, true), 5);  // exactly 5: no rounding error may make it 6
  EXPECT_EQ(capacity_of(o, 9, 2, 4, true), 6);
  o.rounding = "floor";
  EXPECT_EQ(capacity_of(o, 9, 2, 4, true), 5);
  o.counts_k = false;
  EXPECT_EQ(capacity_of(o, 8, 2, 4, true), 2);
  o.min_capacity = 4;
  EXPECT_EQ(capacity_of(o, 8, 2, 4, true), 4);
}

// OpenMoE: floor(factor k T / E), and one more when that is odd; the least room is not made even.
TEST(Capacity, FloorEvenIsTheNextEvenNumberOfTheFloor) {
  CapacityOptions o{.factor = 1.0, .rounding = "floor_even"};
  for (const auto& [tokens, rows] : {std::pair<int64_t, int64_t>{1, 0}, {2, 2}, {3, 2}, {4, 2}, {5, 2}, {6, 4}, {7, 4}, {8, 4}, {9, 4}, {10, 6}}) EXPECT_EQ(capacity_of(o, tokens, 2, 4, true), rows) << tokens;
  o.factor = 0.3;
  EXPECT_EQ(capacity_of(o, 20, 2, 4, true), 4);  // 3 is odd
  o.min_capacity = 5;
  EXPECT_EQ(capacity_of(o, 20, 2, 4, true), 5);
}

// fairseq's top-2: 2 ceil(T / E).
TEST(Capacity, CeilPerChoiceRoundsBeforeItMultiplies) {
  CapacityOptions o{.factor = 1.0, .rounding = "ceil_per_choice"};
  EXPECT_EQ(capacity_of(o, 10, 2, 4, true), 6);  // plain ceil: 5
  EXPECT_EQ(capacity_of(o, 8, 2, 4, true), 4);
  EXPECT_EQ(capacity_of(o, 10, 1, 4, true), 3);
  o.counts_k = false;
  EXPECT_EQ(capacity_of(o, 10, 2, 4, true), 3);
  o.factor = 0.28;
  EXPECT_EQ(capacity_of(o, 25, 2, 7, true), 1);  // exactly 1: the rounding error of 0.28 * 25 may not make it 2
  o.min_capacity = 4;
  EXPECT_EQ(capacity_of(o, 25, 2, 7, true), 4);
}

// Two sequences side by side, top-1, two places per expert and sequence. Oracle: a loop that counts.
TEST(Capacity, AFixedNumberOfRowsPerSequenceIsServedInTokenOrder) {
  const std::vector<int64_t> expert = {0, 0, 1, 0, 1, 1, 1, 0, 0, 0}, sequence = {0, 0, 0, 0, 0, -1, 1, 1, 1, 1};
  GateInput in;
  in.hidden = torch::zeros({10, 3});
  in.sequence_ids = torch::tensor(sequence, torch::kInt64);
  in.valid = in.sequence_ids >= 0;
  in.training = true;
  auto ids = torch::tensor(expert, torch::kInt64).view({10, 1});
  ids[5][0] = -1;  // padding chooses nobody
  CapacityOptions o;
  o.rows = 2;
  o.per_sequence = true;
  const auto priority = priority_registry().make(o.priority);
  const auto p = plan_dispatch({.choice = TokenChoice{ids, torch::ones({10, 1})}}, in, 2, o, priority.get());
  std::map<std::pair<int64_t, int64_t>, int64_t> taken;
  for (size_t t = 0; t < expert.size(); ++t) {
    const bool fits = sequence[t] >= 0 && taken[{sequence[t], expert[t]}]++ < 2;
    EXPECT_EQ(p.plan.kept[static_cast<int64_t>(t)][0].item<bool>(), fits) << t;
  }
  EXPECT_EQ(p.plan.num_rows(), 7);
  in.training = false;  // `rows` speaks of training alone
  EXPECT_EQ(plan_dispatch({.choice = TokenChoice{ids, torch::ones({10, 1})}}, in, 2, o, priority.get()).plan.num_rows(), 9);
}

// What a gate took off the weights on purpose stays off.
TEST(Capacity, RenormalisingKeepsTheSumThatTheGateGave) {
  CapacityOptions o;
  o.rows = 1;
  o.renorm_after_drop = true;
  GateInput in;
  in.hidden = torch::zeros({2, 3});
  in.training = true;
  const auto ids = torch::tensor({0, 1, 0, 2}, torch::kInt64).view({2, 2});
  const auto weights = torch::tensor({0.5f, 0.3f, 0.6f, 0.2f}).view({2, 2});
  const auto priority = priority_registry().make(o.priority);
  const auto p = plan_dispatch({.choice = TokenChoice{ids, weights}}, in, 3, o, priority.get());
  const auto w = std::get<TokenChoice>(p.routing.choice).weights;
  EXPECT_NEAR(w[0][0].item<float>(), 0.5, 1e-6);
  EXPECT_NEAR(w[0][1].item<float>(), 0.3, 1e-6);
  EXPECT_NEAR(w[1][1].item<float>(), 0.8, 1e-6);  // its first choice found no place
}

TEST(Capacity, RenormalisingAfterDropsGivesTokensThatKeptSomethingTheirSumBack) {
  auto o = exactly(2, 2, 6, 4);
  o.renorm_after_drop = true;
  const auto before = top(fixture_logits(), 2).weights.sum(1);
  const auto p = plan(fixture_logits(), 2, o);
  const auto sums = (std::get<TokenChoice>(p.routing.choice).weights * p.plan.kept).sum(1);
  for (int64_t t = 0; t < 6; ++t) EXPECT_NEAR(sums[t].item<double>(), p.plan.kept[t].any().item<bool>() ? before[t].item<double>() : 0, 1e-6) << t;
}

}  // namespace
}  // namespace switchyard
