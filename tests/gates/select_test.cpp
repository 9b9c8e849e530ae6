// Selectors and weighers beyond top-k, on worked examples, brute force and their own invariants.
#include "expect_error.h"
#include "kernels/balanced_assignment.h"
#include "support/gate_fixture.h"

#include <numeric>

namespace switchyard::select_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::choose;
using testing::expect_error;
using testing::fixture_logits;
using testing::gate_on_logits;
using testing::ids_of;
using testing::input_of;
using testing::normal;

ConfigNode select(const char* kind, ConfigNode::Table options = {}) {
  options.emplace_back("kind", kind);
  return ConfigNode(options);
}

ExpertChoice columns(Gate& gate, const GateInput& in) { return std::get<ExpertChoice>(gate.route(in).choice); }

// Prototyping ------------------------------------------------------------------------------------------------------------

ConfigNode::Table prototyping(int64_t groups) {
  return {{"normalise", {{"kind", "softmax"}, {"groups", groups}}}, {"select", select("prototype", {{"groups", groups}})}, {"weigh", "raw"}};
}

TEST(Prototyping, ReproducesTheWorkedExample) {
  const auto choice = choose(*gate_on_logits(prototyping(2)), fixture_logits());
  EXPECT_TRUE(torch::equal(choice.expert_ids, ids_of({{0, 2}, {1, 2}, {0, 2}, {0, 2}, {0, 2}, {0, 3}})));
  const auto want = torch::tensor({.731059, .731059, .524979, .622459, .952574, .622459, .524979, .524979, .622459, .5, .731059, .880797}).view({6, 2});
  EXPECT_TRUE(all_close(choice.weights, want, 1e-5));
}

TEST(Prototyping, OnePrototypeIsSwitchBitForBit) {
  const auto x = normal({50, 8}, 3);
  const auto one = choose(*gate_on_logits(prototyping(1), 8), x);
  const auto top = choose(*gate_on_logits({{"select", select("top_k", {{"k", 1}})}, {"weigh", "raw"}}, 8), x);
  EXPECT_TRUE(torch::equal(one.expert_ids, top.expert_ids));
  EXPECT_TRUE(torch::equal(one.weights, top.weights));
}

TEST(Prototyping, EqualsIndependentGatesOverTheGroups) {
  const auto x = normal({40, 12}, 4);
  const auto all = choose(*gate_on_logits(prototyping(3), 12), x);
  for (int64_t z = 0; z < 3; ++z) {
    const auto one = choose(*gate_on_logits({{"select", select("top_k", {{"k", 1}})}, {"weigh", "raw"}}), x.slice(1, 4 * z, 4 * z + 4));
    EXPECT_TRUE(torch::equal(all.expert_ids.select(1, z), one.expert_ids.select(1, 0) + 4 * z));
    EXPECT_TRUE(all_close(all.weights.select(1, z), one.weights.select(1, 0), 1e-6));
  }
  expect_error(ErrorKind::config, {"prototype", "groups = 5", "12"}, [] { (void)gate_on_logits({{"select", select("prototype", {{"groups", 5}})}}, 12); });
}

// Group-limited ----------------------------------------------------------------------------------------------------------

TEST(GroupLimited, ReproducesTheWorkedExampleOfBothRules) {
  const auto s = torch::tensor({.9, .1, .6, .6, .8, .3, .2, .7}).view({1, 8}).to(torch::kFloat32);
  const auto z = at::logit(s);
  auto gate = gate_on_logits({{"normalise", "sigmoid"}, {"balance", {{"kind", "bias"}}}, {"weigh", "renormalise"},
                              {"select", select("group_limited", {{"k", 3}, {"groups", 4}, {"keep", 2}, {"group_score", "sum"}})}}, 8);
  {
    torch::NoGradGuard no_grad;
    gate->named_buffers()["balance.bias"].copy_(torch::tensor({0., 0., 0., .05, -.2, 0., 0., 0.}));
  }
  const auto v3 = choose(*gate, z);
  EXPECT_TRUE(torch::equal(v3.expert_ids, ids_of({{0, 3, 2}})));
  EXPECT_TRUE(all_close(v3.weights * 2.5, torch::tensor({{1.071429, .714286, .714286}}), 1e-5));
  const auto v2 = choose(*gate_on_logits({{"normalise", "sigmoid"}, {"weigh", "raw"},
                                          {"select", select("group_limited", {{"k", 4}, {"groups", 4}, {"keep", 2}})}}, 8), z);
  EXPECT_TRUE(torch::equal(std::get<0>(v2.expert_ids[0].sort()), torch::tensor({0, 1, 4, 5}, torch::kInt64)));
}

// Oracle: all subsets of groups by brute force over the definition.
TEST(GroupLimited, StaysInTheBestGroupsAndTakesTheBestOfThem) {
  const auto x = normal({60, 12}, 9);
  for (const char* score : {"max", "sum"}) {
    const auto ids = choose(*gate_on_logits({{"weigh", "raw"}, {"select", select("group_limited", {{"k", 4}, {"groups", 4}, {"keep", 2}, {"group_score", score}})}}, 12), x).expert_ids;
    const auto p = at::softmax(x, 1);
    for (int64_t t = 0; t < 60; ++t) {
      std::vector<std::pair<double, int64_t>> groups;
      for (int64_t g = 0; g < 4; ++g) {
        const auto best = std::get<0>(p[t].slice(0, 3 * g, 3 * g + 3).sort(0, true));
        groups.emplace_back(-(score[0] == 'm' ? best[0] : best[0] + best[1]).item<double>(), g);
      }
      std::sort(groups.begin(), groups.end());
      std::vector<std::pair<double, int64_t>> open;
      for (int64_t i = 0; i < 2; ++i)
        for (int64_t e = 0; e < 3; ++e) open.emplace_back(-p[t][groups[i].second * 3 + e].item<double>(), groups[i].second * 3 + e);
      std::sort(open.begin(), open.end());
      for (int64_t j = 0; j < 4; ++j) EXPECT_EQ(ids[t][j].item<int64_t>(), open[j].second) << score << " token " << t;
    }
  }
}

TEST(GroupLimited, OneGroupIsTopKAndWrongSizesAreNamed) {
  const auto x = normal({30, 8}, 2);
  const auto limited = choose(*gate_on_logits({{"select", select("group_limited", {{"k", 3}, {"groups", 1}, {"keep", 1}})}}, 8), x);
  const auto plain = choose(*gate_on_logits({{"select", select("top_k", {{"k", 3}})}}, 8), x);
  EXPECT_TRUE(torch::equal(limited.expert_ids, plain.expert_ids));
  EXPECT_TRUE(torch::equal(limited.weights, plain.weights));
  const auto refused = [](const char* word, ConfigNode::Table options) {
    expect_error(ErrorKind::config, {word}, [&] { (void)gate_on_logits({{"select", select("group_limited", options)}}, 8); });
  };
  refused("groups = 3", {{"groups", 3}});
  refused("keep = 5", {{"groups", 4}, {"keep", 5}});
  refused("k = 5", {{"groups", 4}, {"keep", 2}, {"k", 5}});
  refused("best = 3", {{"groups", 4}, {"keep", 2}, {"k", 2}, {"group_score", "sum"}, {"best", 3}});
}

// Expert choice ----------------------------------------------------------------------------------------------------------

ConfigNode::Table expert_choice(double factor, int64_t max_experts = 0) {
  return {{"select", select("expert_choice", {{"capacity_factor", factor}, {"max_experts", max_experts}, {"lambda", 0.002}, {"iterations", 2000}})}, {"weigh", "raw"}};
}

TEST(ExpertChoice, ReproducesTheWorkedExamples) {
  const auto three = columns(*gate_on_logits(expert_choice(2)), input_of(fixture_logits()));  // k = 2 * 6 / 4
  EXPECT_TRUE(torch::equal(three.token_ids, ids_of({{2, 0, 4}, {1, 4, 0}, {3, 2, 1}, {5, 3, 2}})));
  EXPECT_NEAR(three.weights[0][0].item<double>(), .789137, 1e-5);
  const auto one = columns(*gate_on_logits(expert_choice(0.5)), input_of(fixture_logits()));
  EXPECT_TRUE(torch::equal(one.token_ids, ids_of({{2}, {1}, {3}, {5}})));
}

TEST(ExpertChoice, LoadsAreEqualPaddingIsNeverChosenAndTiesGoToTheEarlierToken) {
  auto in = input_of(normal({40, 8}, 5));
  in.valid = torch::ones({40}, torch::kBool);
  in.valid.slice(0, 30) = false;
  const auto choice = columns(*gate_on_logits(expert_choice(2), 8), in);
  EXPECT_EQ(choice.token_ids.size(1), 8);  // ceil(2 * 30 / 8)
  EXPECT_TRUE(choice.token_ids.lt(30).all().item<bool>());
  EXPECT_TRUE(choice.token_ids.ge(0).all().item<bool>());
  const auto tied = columns(*gate_on_logits(expert_choice(1)), input_of(torch::zeros({8, 4})));
  for (int64_t e = 0; e < 4; ++e) EXPECT_TRUE(torch::equal(tied.token_ids[e], torch::tensor({0, 1}, torch::kInt64)));
  in.valid.fill_(false);
  EXPECT_EQ(columns(*gate_on_logits(expert_choice(2), 8), in).token_ids.numel(), 0);
}

TEST(ExpertChoice, EveryChosenScoreIsAtLeastEveryOtherOfItsExpert) {
  const auto x = normal({64, 8}, 6);
  const auto choice = columns(*gate_on_logits(expert_choice(2), 8), input_of(x));
  const auto p = at::softmax(x, 1).t();
  for (int64_t e = 0; e < 8; ++e) {
    auto rest = p[e].clone();
    rest.index_fill_(0, choice.token_ids[e], 0);
    EXPECT_GE(choice.weights[e].min().item<double>(), rest.max().item<double>());
  }
}

TEST(ExpertChoice, TheBoundedPlanKeepsTokensWithinTheirBound) {
  // One token that every expert wants most: without a bound all of them take it.
  auto z = normal({24, 6}, 8) * 3;
  z[3] = z[3] * 0.1;
  const auto most = [&](int64_t bound) {
    const auto ids = columns(*gate_on_logits(expert_choice(3, bound), 6), input_of(z)).token_ids;
    EXPECT_EQ(ids.size(1), 12);
    return at::bincount(ids.reshape({-1}), {}, 24).max().item<int64_t>();
  };
  EXPECT_GT(most(0), 4);
  EXPECT_LE(most(4), 4);
}

TEST(ExpertChoice, RenormalisedWeightsOfACoveredTokenSumToOne) {
  auto chain = expert_choice(2);
  chain[1].second = ConfigNode("renormalise");
  const auto choice = columns(*gate_on_logits(chain, 8), input_of(normal({32, 8}, 7)));
  const auto sums = torch::zeros({32}).index_add(0, choice.token_ids.reshape({-1}), choice.weights.reshape({-1}));
  for (int64_t t = 0; t < 32; ++t) {
    const double sum = sums[t].item<double>();
    EXPECT_TRUE(sum == 0 || std::abs(sum - 1) < 1e-6) << "token " << t << " sum " << sum;
  }
}

// Balanced assignment ----------------------------------------------------------------------------------------------------

double value(const std::vector<float>& affinity, int64_t experts, const std::vector<int64_t>& expert_of) {
  double sum = 0;
  for (size_t t = 0; t < expert_of.size(); ++t) sum += affinity[t * static_cast<size_t>(experts) + static_cast<size_t>(expert_of[t])];
  return sum;
}

// All assignments with at most `capacity` tokens per expert.
double best_by_enumeration(const kernels::AssignmentProblem& p, int64_t token, std::vector<int64_t>& room) {
  if (token == p.tokens) return 0;
  double best = -1e300;
  for (int64_t e = 0; e < p.experts; ++e) {
    if (room[static_cast<size_t>(e)] == 0) continue;
    --room[static_cast<size_t>(e)];
    best = std::max(best, p.at(token, e) + best_by_enumeration(p, token + 1, room));
    ++room[static_cast<size_t>(e)];
  }
  return best;
}

TEST(BalancedAssignment, EqualsTheOptimumOfEnumerationWithFullLoads) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const int64_t experts = 1 + static_cast<int64_t>(seed % 4), tokens = 1 + static_cast<int64_t>(seed % 9);
    std::vector<float> a(static_cast<size_t>(tokens * experts));
    RandomStream(seed).fill_normal(a.data(), static_cast<int64_t>(a.size()));
    if (seed % 3 == 0) for (float& x : a) x = std::floor(2 * x);  // ties
    const kernels::AssignmentProblem p{a, tokens, experts, (tokens + experts - 1) / experts};
    std::vector<int64_t> room(static_cast<size_t>(experts), p.capacity);
    const double best = best_by_enumeration(p, 0, room);
    const auto exact = kernels::assign_exactly(p), bid = kernels::assign_by_auction(p, 1e-6);
    EXPECT_NEAR(value(a, experts, exact), best, 1e-6) << seed;
    EXPECT_NEAR(value(a, experts, bid), best, static_cast<double>(p.capacity * experts) * 1e-6 + 1e-6) << seed;
    for (const auto& expert_of : {exact, bid}) {
      std::vector<int64_t> load(static_cast<size_t>(experts), 0);
      for (const int64_t e : expert_of) ++load[static_cast<size_t>(e)];
      for (const int64_t n : load) EXPECT_LE(n, p.capacity) << seed;
    }
  }
}

// The two solvers share nothing but the problem.
TEST(BalancedAssignment, TheAuctionAgreesWithTheExactSolverAtSize) {
  const int64_t tokens = 512, experts = 16;
  std::vector<float> a(static_cast<size_t>(tokens * experts));
  RandomStream(77).fill_normal(a.data(), static_cast<int64_t>(a.size()));
  const kernels::AssignmentProblem p{a, tokens, experts, tokens / experts};
  const double exact = value(a, experts, kernels::assign_exactly(p)), bid = value(a, experts, kernels::assign_by_auction(p, 1e-3));
  EXPECT_LE(bid, exact + 1e-6);
  EXPECT_GE(bid, exact - static_cast<double>(tokens) * 1e-3);
}

ConfigNode::Table base(const char* solver) { return {{"select", select("assignment", {{"solver", solver}})}, {"weigh", "sigmoid"}}; }

TEST(BaseLayer, ReproducesTheWorkedExampleAndTakesTheBestExpertOutsideTraining) {
  const auto a = fixture_logits().slice(1, 0, 3).contiguous();
  for (const char* solver : {"exact", "auction"}) {
    auto gate = gate_on_logits(base(solver), 3);
    const auto choice = choose(*gate, a, /*training=*/true);
    EXPECT_TRUE(torch::equal(choice.expert_ids, ids_of({{0}, {1}, {0}, {2}, {1}, {2}}))) << solver;
    EXPECT_TRUE(all_close(choice.weights, at::sigmoid(a.gather(1, choice.expert_ids)), 1e-6));
    EXPECT_TRUE(torch::equal(choose(*gate, a).expert_ids, ids_of({{0}, {1}, {0}, {2}, {0}, {0}})));
  }
}

// Tokens 5 and 6 have no score that is a number: they go nowhere, and the others are shared out as evenly as before.
TEST(BaseLayer, LoadsAreEqualAndPaddingAndBrokenScoresDoNotBreakIt) {
  auto x = normal({42, 4}, 3) * 4;
  x[5][2] = std::numeric_limits<float>::quiet_NaN();
  x[6][1] = std::numeric_limits<float>::infinity();
  auto in = input_of(x, true);
  in.valid = torch::ones({42}, torch::kBool);
  in.valid.slice(0, 40) = false;
  auto gate = gate_on_logits(base("exact"));
  const auto ids = std::get<TokenChoice>(gate->route(in).choice).expert_ids;
  const auto loads = at::bincount(ids.slice(0, 0, 40).reshape({-1}) + 1, {}, 5);
  EXPECT_EQ(loads[0].item<int64_t>(), 2);
  EXPECT_TRUE(ids.slice(0, 5, 7).eq(-1).all().item<bool>());
  EXPECT_EQ(loads.slice(0, 1).max().item<int64_t>(), 10);
  EXPECT_GE(loads.slice(0, 1).min().item<int64_t>(), 8);
  EXPECT_TRUE(ids.slice(0, 40).eq(-1).all().item<bool>());
}

// Sinkhorn ---------------------------------------------------------------------------------------------------------------

TEST(SBase, TheWorkedExampleGivesTheBalancedAssignment) {
  const auto a = fixture_logits().slice(1, 0, 3).contiguous();
  auto gate = gate_on_logits({{"select", select("sinkhorn")}, {"weigh", "raw"}}, 3);
  EXPECT_TRUE(torch::equal(choose(*gate, a, true).expert_ids, ids_of({{0}, {1}, {0}, {2}, {1}, {2}})));
  EXPECT_TRUE(torch::equal(choose(*gate, a).expert_ids, ids_of({{0}, {1}, {0}, {2}, {0}, {0}})));
}

TEST(SBase, ASmallTauGivesTheOptimumOfBase) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const auto a = normal({6, 3}, seed);
    const auto ot = choose(*gate_on_logits({{"select", select("sinkhorn", {{"tau", 0.05}, {"iterations", 3000}, {"tolerance", 1e-9}})}, {"weigh", "raw"}}, 3), a, true);
    const auto lap = choose(*gate_on_logits(base("exact"), 3), a, true);
    EXPECT_TRUE(torch::equal(ot.expert_ids, lap.expert_ids)) << seed;
  }
}

TEST(SBase, ConstantsPerTokenOrExpertChangeNothingAndLargeLogitsDoNotOverflow) {
  const auto x = normal({64, 8}, 3);
  auto gate = gate_on_logits({{"select", select("sinkhorn", {{"iterations", 500}, {"tolerance", 1e-7}})}, {"weigh", "raw"}}, 8);
  const auto ids = choose(*gate, x, true).expert_ids;
  EXPECT_TRUE(torch::equal(choose(*gate, x + normal({64, 1}, 4), true).expert_ids, ids));
  EXPECT_TRUE(torch::equal(choose(*gate, x + normal({1, 8}, 5), true).expert_ids, ids));
  EXPECT_TRUE(torch::equal(choose(*gate, x + 1000, true).expert_ids, ids));
}

// Sampling, dense to sparse ----------------------------------------------------------------------------------------------

TEST(Sample, FrequenciesAreTheProbabilitiesAndEvaluationTakesTheLargest) {
  const auto z = torch::tensor({1.0f, 0.0f, -1.0f, 0.5f}).expand({40000, 4}).contiguous();
  auto gate = gate_on_logits({{"select", "sample"}, {"weigh", "raw"}});
  const auto counts = at::bincount(choose(*gate, z, true).expert_ids.reshape({-1}), {}, 4).to(torch::kFloat64) / 40000;
  EXPECT_TRUE(all_close(counts, at::softmax(z[0].to(torch::kFloat64), 0), 4 * 0.5 / 200));
  EXPECT_TRUE(choose(*gate, z).expert_ids.eq(0).all().item<bool>());
}

TEST(DenseToSparse, TakesAllAboveTheThresholdAndLaterTheBest) {
  auto gate = gate_on_logits({{"select", select("dense_to_sparse", {{"threshold", 0.1}, {"steps", 10}})}, {"weigh", "raw"}});
  auto in = input_of(fixture_logits(), true);
  const auto early = std::get<TokenChoice>(gate->route(in).choice);
  const auto p = at::softmax(fixture_logits(), 1);
  EXPECT_TRUE(torch::equal((early.expert_ids >= 0).sum(1), (p > 0.1).sum(1)));
  EXPECT_TRUE(all_close(early.weights.sum(1), (p * (p > 0.1)).sum(1), 1e-6));
  in.step = 10;
  EXPECT_EQ(std::get<TokenChoice>(gate->route(in).choice).expert_ids.size(1), 1);
  EXPECT_TRUE(torch::equal(choose(*gate, fixture_logits()).expert_ids, ids_of({{0}, {1}, {0}, {2}, {0}, {3}})));
}

TEST(AnnealedSoftmax, ReproducesTheWorkedExamplesAndFewerExpertsPassAsItCools) {
  const auto probs = [](int64_t step, bool training) {
    auto gate = gate_on_logits({{"normalise", {{"kind", "annealed_softmax"}, {"from", 2.0}, {"to", 0.3}, {"steps", 100}}}});
    auto in = input_of(fixture_logits(), training);
    in.step = step;
    return gate->route(in).scores.probs;
  };
  EXPECT_TRUE(all_close(probs(0, true)[0], torch::tensor({.455054, .276004, .167405, .101536}), 1e-5));
  EXPECT_TRUE(all_close(probs(100, true)[0], torch::tensor({.964328, .034401, .001227, .000044}), 1e-5));
  EXPECT_TRUE(torch::equal(probs(0, false), probs(500, true)));
  int64_t last = 25;
  for (int64_t step = 0; step <= 100; step += 20) {
    const auto kept = (probs(step, true) > 1e-3).sum().item<int64_t>();
    EXPECT_LE(kept, last);
    last = kept;
  }
}

// Strictly balanced ------------------------------------------------------------------------------------------------------

TEST(StrictlyBalanced, EqualLoadsInTrainingAndALossThatIsZeroOnlyWhenTheMasksAgree) {
  auto gate = gate_on_logits({{"select", select("strictly_balanced", {{"k", 2}})}});
  const auto x = normal({32, 4}, 2);
  const auto routing = gate->route(input_of(x, true));
  const auto& choice = std::get<ExpertChoice>(routing.choice);
  EXPECT_EQ(choice.token_ids.size(1), 16);
  const auto p = at::softmax(x, 1);
  const auto batch = torch::zeros({4, 32}).scatter_(1, choice.token_ids, 1).t();
  const auto above = (p > 0.25).to(torch::kFloat32);
  EXPECT_NEAR(routing.terms.at("threshold").item<double>(), ((above - batch) * (p - 0.25)).sum().item<double>(), 1e-5);
  EXPECT_GT(routing.terms.at("threshold").item<double>(), 0);
  // Thresholds between the last taken and the first refused probability of each column: both masks agree.
  {
    torch::NoGradGuard no_grad;
    const auto sorted = std::get<0>(p.sort(0, true));
    gate->named_parameters()["select.threshold"].copy_((sorted[15] + sorted[16]) / 2);
  }
  EXPECT_NEAR(gate->route(input_of(x, true)).terms.at("threshold").item<double>(), 0, 1e-7);
  const auto alone = choose(*gate, x);
  EXPECT_TRUE(torch::equal((alone.expert_ids >= 0).sum(1), batch.sum(1).to(torch::kInt64)));
}

TEST(StrictlyBalanced, ThresholdsLearnByTheirTermAlone) {
  auto gate = gate_on_logits({{"select", select("strictly_balanced", {{"k", 2}})}});
  gate->to(torch::kFloat64);
  const auto x = normal({16, 4}, 4).to(torch::kFloat64);
  auto threshold = gate->named_parameters()["select.threshold"];
  EXPECT_LT(testing::finite_difference_gap([&] { return gate->route(input_of(x, true)).terms.at("threshold"); }, threshold, 4), 1e-5);
}

// Weighers ---------------------------------------------------------------------------------------------------------------

TEST(EqualWeights, AreOneOrOneOverTheNumberChosen) {
  const auto z = fixture_logits();
  const ConfigNode above = select("dense_to_sparse", {{"threshold", 0.2}});
  const auto mean = choose(*gate_on_logits({{"select", above}, {"weigh", "equal"}, {"allow_constant_weight", true}}), z, true);
  EXPECT_TRUE(all_close(mean.weights.sum(1), torch::ones({6}), 1e-6));
  const auto ones = choose(*gate_on_logits({{"select", above}, {"weigh", {{"kind", "equal"}, {"mean", false}}}, {"allow_constant_weight", true}}), z, true);
  EXPECT_TRUE(torch::equal(ones.weights, (ones.expert_ids >= 0).to(torch::kFloat32)));
}

}  // namespace
}  // namespace switchyard::select_test
