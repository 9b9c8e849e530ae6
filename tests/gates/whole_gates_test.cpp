// Gates that are no chain: DSelect-k, hierarchical, DynMoE. Worked examples, loops, equivalences, finite differences.
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/loss.h"

#include <cmath>

namespace switchyard::whole_gates_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::choose;
using testing::expect_error;
using testing::finite_difference_gap;
using testing::ids_of;
using testing::input_of;
using testing::normal;
using testing::stats_of;

std::shared_ptr<Gate> gate(const char* kind, ConfigNode::Table options, int64_t d_model, int64_t num_experts) {
  return gate_registry().make(BlockSpec(kind, options), GateShape{d_model, num_experts, 0, 1});
}

void set(torch::nn::Module& module, const char* name, const torch::Tensor& value) {
  torch::NoGradGuard no_grad;
  (module.named_parameters().contains(name) ? module.named_parameters()[name] : module.named_buffers()[name]).copy_(value);
}

// DSelect-k --------------------------------------------------------------------------------------------------------------

std::shared_ptr<Gate> dselect_example() {
  auto g = gate("dselect_k", {{"k", 2}, {"per_token", false}}, 3, 4);
  set(*g, "codes", torch::tensor({.25, -.1, .6, -.7}));
  set(*g, "mixture", torch::tensor({0., 1.}));
  return g;
}

TEST(DSelectK, ReproducesTheWorkedExample) {
  const auto g = dselect_example();
  const auto routing = g->route(input_of(torch::zeros({2, 3})));
  EXPECT_TRUE(all_close(routing.scores.probs[1], torch::tensor({.027230, .014792, .878102, .079876}), 1e-5));
  EXPECT_NEAR(routing.terms.at("entropy").item<double>(), 1.082071, 1e-5);
  EXPECT_TRUE(torch::equal(std::get<TokenChoice>(routing.choice).expert_ids, ids_of({{2, 3, 0, 1}, {2, 3, 0, 1}})));
}

TEST(DSelectK, SettledCodesLeaveAtMostKExpertsAndWeightsSumToOne) {
  auto g = dselect_example();
  set(*g, "codes", torch::tensor({.9, -.9, -.5, .5}));
  const auto choice = choose(*g, torch::zeros({3, 3}));
  EXPECT_EQ(choice.expert_ids.size(1), 2);
  EXPECT_TRUE(all_close(choice.weights.sum(1), torch::ones({3}), 1e-6));
  EXPECT_TRUE(torch::equal(std::get<0>(choice.expert_ids[0].sort()), torch::tensor({1, 2}, torch::kInt64)));  // 01 and 10
  EXPECT_NEAR(g->route(input_of(torch::zeros({3, 3}))).terms.at("entropy").item<double>(), 0, 1e-5);
}

TEST(DSelectK, TheStepAndItsSlopeAreContinuousAtTheEndsOfTheRamp) {
  const auto share = [](double t) {  // of expert 1 of 2: S(t)
    auto g = gate("dselect_k", {{"k", 1}, {"per_token", false}}, 3, 2);
    g->to(torch::kFloat64);
    set(*g, "codes", torch::full({1}, t));
    return g->route(input_of(torch::zeros({1, 3}))).scores.probs[0][1].item<double>();
  };
  const double h = 1e-6;
  for (const double end : {-0.5, 0.5}) {
    EXPECT_NEAR(share(end), end > 0, 1e-12);
    EXPECT_NEAR((share(end + h) - share(end)) / h, 0, 1e-5);
    EXPECT_NEAR((share(end) - share(end - h)) / h, 0, 1e-5);
  }
  EXPECT_NEAR(share(0), 0.5, 1e-12);
}

TEST(DSelectK, GradientsMatchFiniteDifferencesAndUnreachableCodesAreWatched) {
  auto g = gate("dselect_k", {{"k", 2}}, 4, 6);  // six experts: two of eight codes name nobody
  g->to(torch::kFloat64);
  const auto x = normal({5, 4}, 2).to(torch::kFloat64), value = normal({5, 6}, 3).to(torch::kFloat64);
  const auto loss = [&] {
    const auto r = g->route(input_of(x));
    return (r.scores.probs * value).sum() + 0.1 * r.terms.at("entropy") + 0.1 * r.terms.at("reach");
  };
  for (auto& p : g->parameters()) EXPECT_LT(finite_difference_gap(loss, p), 1e-5);
  EXPECT_GT(g->route(input_of(x)).terms.at("reach").item<double>(), 10);  // 1 / share of the reachable codes, two selectors, five tokens
  EXPECT_LT(g->route(input_of(x)).scores.probs.sum(1).max().item<double>(), 1);
}

TEST(DSelectK, PaddingEntersNoTerm) {
  auto g = gate("dselect_k", {{"k", 2}}, 4, 4);
  auto in = input_of(normal({6, 4}, 2));
  in.valid = torch::tensor({1, 1, 1, 1, 0, 0}).to(torch::kBool);
  EXPECT_NEAR(g->route(in).terms.at("entropy").item<double>(), g->route(input_of(normal({6, 4}, 2).slice(0, 0, 4))).terms.at("entropy").item<double>(), 1e-5);
}

// Hierarchical -----------------------------------------------------------------------------------------------------------

TEST(Hierarchical, ReproducesTheWorkedExample) {
  auto g = gate("hierarchical", {{"groups", 2}, {"k_groups", 2}, {"k", 2}}, 1, 4);
  set(*g, "primary", torch::tensor({.7, .3}).log().view({2, 1}));
  set(*g, "secondary", torch::tensor({.8, .2, .4, .6}).log().view({2, 2, 1}));
  const auto choice = choose(*g, torch::ones({1, 1}));
  const auto leaves = torch::zeros({1, 4}).scatter(1, choice.expert_ids, choice.weights);
  EXPECT_TRUE(all_close(leaves, torch::tensor({{.56, .14, .12, .18}}), 1e-5));
}

TEST(Hierarchical, WithAllGroupsAndExpertsItIsTheFlatSoftmaxOfSummedLogProbabilities) {
  auto g = gate("hierarchical", {{"groups", 3}, {"k_groups", 3}, {"k", 4}, {"init_std", 1.0}}, 5, 12);
  const auto x = normal({20, 5}, 2);
  const auto choice = choose(*g, x);
  const auto flat = torch::zeros({20, 12}).scatter(1, choice.expert_ids, choice.weights);
  const auto p = g->named_parameters();
  const auto primary = at::log_softmax(at::matmul(x, p["primary"].t()), 1);
  const auto secondary = at::log_softmax(at::matmul(x, p["secondary"].view({12, 5}).t()).view({20, 3, 4}), 2);
  EXPECT_TRUE(all_close(flat, at::softmax((primary.unsqueeze(2) + secondary).view({20, 12}), 1), 1e-5));
}

TEST(Hierarchical, OneGroupIsTheFlatGateAndWeightsSumToOneOverDistinctLeaves) {
  auto g = gate("hierarchical", {{"groups", 1}, {"k_groups", 1}, {"k", 3}, {"init_std", 1.0}}, 5, 8);
  const auto x = normal({20, 5}, 2);
  auto flat = testing::gate_of({{"select", {{"kind", "top_k"}, {"k", 3}}}, {"weigh", "softmax_chosen"}}, 5, 8);
  set(*flat, "score.weight", g->named_parameters()["secondary"][0]);
  const auto a = choose(*g, x), b = choose(*flat, x);
  EXPECT_TRUE(torch::equal(a.expert_ids, b.expert_ids));
  EXPECT_TRUE(all_close(a.weights, b.weights, 1e-6));
  auto deep = gate("hierarchical", {{"groups", 4}, {"k_groups", 2}, {"k", 2}, {"init_std", 1.0}}, 5, 16);
  const auto c = choose(*deep, x, /*training=*/true);
  EXPECT_TRUE(all_close(c.weights.sum(1), torch::ones({20}), 1e-6));
  for (int64_t t = 0; t < 20; ++t) EXPECT_EQ(std::get<0>(at::_unique(c.expert_ids[t])).size(0), 4);
}

TEST(Hierarchical, NoiseDoesNotDependOnHowTokensAreSplitIntoCallsAndIsOffOutsideTraining) {
  auto g = gate("hierarchical", {{"groups", 4}, {"k_groups", 2}, {"k", 1}, {"init_std", 0.2}}, 5, 16);
  const auto x = normal({12, 5}, 2);
  const auto whole = choose(*g, x, true);
  auto part = input_of(x.slice(0, 5, 12).contiguous(), true);
  part.first_token = 5;
  EXPECT_TRUE(torch::equal(std::get<TokenChoice>(g->route(part).choice).expert_ids, whole.expert_ids.slice(0, 5, 12)));
  EXPECT_TRUE(torch::equal(choose(*g, x).weights, choose(*g, x).weights));
}

// The definition, leaf by leaf, on the noisy logits that the gate drew.
TEST(Hierarchical, LoadIsTheProductOfBothLevelsOverTheTokensOfTheGroup) {
  auto g = gate("hierarchical", {{"groups", 3}, {"k_groups", 3}, {"k", 2}, {"init_std", 0.5}}, 5, 9);
  const auto x = normal({30, 5}, 2);
  // All groups are chosen: Load^P = T for each, and |X| = T, so that Load_ij is the load of the inner gate.
  const auto routing = g->route(input_of(x, true));
  auto in = input_of(x, true);
  auto noise = torch::empty({30, 3, 3});
  in.random.at("secondary").fill_normal(noise.data_ptr<float>(), noise.numel());
  // Row (token, choice) of the draw belongs to the group that the token ranked there.
  const auto groups = std::get<TokenChoice>(routing.choice).expert_ids.view({30, 3, 2}).select(2, 0).floor_divide(3);
  const auto clean = at::matmul(x, g->named_parameters()["secondary"].view({9, 5}).t()).view({30, 3, 3});
  const double std = std::log(2.0) + 1e-2;
  auto load = torch::zeros({3, 3}, torch::kFloat64);
  for (int64_t t = 0; t < 30; ++t)
    for (int64_t c = 0; c < 3; ++c) {
      const auto group = groups[t][c].item<int64_t>();
      const auto z = clean[t][group], h = z + noise[t][c] * std;
      for (int64_t i = 0; i < 3; ++i) {
        auto others = h.clone();
        others[i] = -1e30;
        const double threshold = std::get<0>(others.sort(0, true))[1].item<double>();
        load[group][i] += 0.5 * std::erfc(-(z[i].item<double>() - threshold) / std / std::sqrt(2.0));
      }
    }
  const double want = (load.var(false) / load.mean().square()).item<double>();
  EXPECT_NEAR(routing.terms.at("load").item<double>(), want, 1e-4);
}

TEST(Hierarchical, GradientsMatchFiniteDifferences) {
  auto g = gate("hierarchical", {{"groups", 2}, {"k_groups", 1}, {"k", 2}, {"init_std", 1.0}}, 4, 6);
  g->to(torch::kFloat64);
  const auto x = normal({8, 4}, 5).to(torch::kFloat64);
  const auto loss = [&] {
    const auto r = g->route(input_of(x, true));
    return (std::get<TokenChoice>(r.choice).weights * torch::arange(2, torch::kFloat64)).sum() + r.terms.at("load");
  };
  for (auto& p : g->parameters()) EXPECT_LT(finite_difference_gap(loss, p), 1e-4);
}

// DynMoE -----------------------------------------------------------------------------------------------------------------

std::shared_ptr<Gate> dynmoe_example() {
  auto g = gate("dynmoe", {}, 2, 3);
  set(*g, "weight", torch::tensor({1., 0., 0., 1., -1., 0.}).view({3, 2}));
  set(*g, "threshold", torch::tensor({0., .3, .8}));
  return g;
}

torch::Tensor example_tokens() { return torch::tensor({3.f, 4.f, 0.f, -1.f, 1.f, 0.f}).view({3, 2}); }

TEST(DynMoE, ReproducesTheWorkedExample) {
  auto g = dynmoe_example();
  const auto training = choose(*g, example_tokens(), true);
  EXPECT_TRUE(torch::equal((training.expert_ids >= 0).sum(1), torch::tensor({2, 0, 1}, torch::kInt64)));
  EXPECT_TRUE(all_close(training.weights[0], torch::tensor({.5, .5}), 1e-6));
  EXPECT_EQ(training.weights[1].abs().sum().item<float>(), 0);
  const auto evaluation = choose(*g, example_tokens());
  EXPECT_TRUE((evaluation.expert_ids >= 0).any(1).all().item<bool>());
  EXPECT_EQ(evaluation.expert_ids[1][0].item<int64_t>(), 0);  // margins 0, -.305506, -.189974
  EXPECT_NEAR(evaluation.weights[1][0].item<double>(), 1, 1e-6);
}

TEST(DynMoE, TheStraightThroughSlopeIsOneWhereAnExpertWorks) {
  auto g = dynmoe_example();
  auto threshold = g->named_parameters()["threshold"];
  choose(*g, example_tokens().slice(0, 0, 1), true).weights.sum().backward();
  // Two experts work: d(weight)/d(sigmoid(G)) = -1 / 2 for each, none for the third.
  const auto s = at::sigmoid(threshold.detach());
  const auto want = -0.5 * s * (1 - s) * torch::tensor({1.f, 1.f, 0.f});
  EXPECT_TRUE(all_close(threshold.grad(), want, 1e-6));
}

TEST(DynMoE, ThroughTheCountExpertsCompete) {
  auto g = gate("dynmoe", {{"through_count", true}}, 2, 3);
  set(*g, "weight", torch::tensor({1., 0., 0., 1., -1., 0.}).view({3, 2}));
  set(*g, "threshold", torch::tensor({0., .3, .8}));
  const auto choice = choose(*g, example_tokens().slice(0, 0, 1), true);
  EXPECT_TRUE(all_close(choice.weights[0], torch::tensor({.5, .5}), 1e-6));
  // What the experts give: 3 and 1, y = 2. d y / d g_i = (E_i - y) / 2.
  const auto gives = torch::tensor({3.f, 1.f, 0.f}).index_select(0, choice.expert_ids[0]);
  (choice.weights[0] * gives).sum().backward();
  const auto threshold = g->named_parameters()["threshold"];
  const auto s = at::sigmoid(threshold.detach());
  EXPECT_TRUE(all_close(threshold.grad(), -s * (1 - s) * torch::tensor({.5f, -.5f, 0.f}), 1e-6));
}

// Token 0 has experts 0 and 1, token 1 nobody, token 2 expert 0.
TEST(DynMoE, TermsOfTheReleasedCodeByHandAndTheirSlopeIsThatOfTheSigns) {
  auto g = dynmoe_example();
  const auto terms = g->route(input_of(example_tokens(), true)).terms;
  EXPECT_NEAR(terms.at("efficiency").item<double>(), 3.0 / 9, 1e-6);
  EXPECT_NEAR(terms.at("balance").item<double>(), 3 * ((0.5 + 1) / 2 * 1 + 0.5 / 2 * 0.5), 1e-6);
  auto in = input_of(torch::cat({example_tokens(), torch::tensor({{5.f, 5.f}})}), true);
  in.valid = torch::tensor({1, 1, 1, 0}).to(torch::kBool);
  const auto padded = g->route(in).terms;
  EXPECT_NEAR(padded.at("efficiency").item<double>(), 3.0 / 9, 1e-6);
  EXPECT_NEAR(padded.at("balance").item<double>(), 2.625, 1e-6);
  terms.at("efficiency").backward();
  const auto threshold = g->named_parameters()["threshold"];
  const auto s = at::sigmoid(threshold.detach());
  EXPECT_TRUE(all_close(threshold.grad(), -s * (1 - s) * torch::tensor({2.f, 1.f, 0.f}) / 9, 1e-6));
  EXPECT_EQ(g->route(input_of(torch::zeros({0, 2}), true)).terms.at("balance").item<double>(), 0);
}

TEST(DynMoE, UnusedExpertsSleepAndOneWakesForTheTokensThatWereLeftAlone) {
  auto g = gate("dynmoe", {{"period", 2}, {"start", 2}}, 2, 4);
  set(*g, "weight", torch::tensor({1., 0., -1., 0., 0., 1., 0., 1.}).view({4, 2}));
  set(*g, "threshold", torch::tensor({.1, .1, .1, .1}));
  const auto x = torch::tensor({1.f, .1f, 2.f, -.2f, .2f, -3.f, -.2f, -3.f}).view({4, 2});  // two to the right, two straight down
  for (int step = 0; step < 2; ++step) g->update(stats_of(*g, input_of(x, true), 4));
  EXPECT_TRUE(torch::equal(g->named_buffers()["live"], torch::tensor({1.f, 0.f, 0.f, 0.f}) + torch::tensor({0.f, 1.f, 0.f, 0.f})))
      << "expert 1 slept, and as the first sleeper it woke again for the tokens below";
  const auto woken = g->named_parameters()["weight"][1];
  EXPECT_NEAR((woken * torch::tensor({0.f, -1.f})).sum().item<double>(), 1, 1e-5) << "cosine with the mean of the tokens left alone";
  EXPECT_EQ(g->named_parameters()["threshold"][1].item<float>(), 0);
  const auto after = choose(*g, x, true);
  EXPECT_TRUE(torch::equal(after.expert_ids.select(1, 0), torch::tensor({0, 0, 1, 1}, torch::kInt64)));
}

TEST(DynMoE, SleepingExpertsAreNeverChosenAndTermsSeeLiveOnesOnly) {
  auto g = gate("dynmoe", {{"start", 3}}, 6, 8);
  const auto choice = choose(*g, normal({40, 6}, 3));
  EXPECT_LT(choice.expert_ids.max().item<int64_t>(), 3);
  const auto w = g->named_parameters()["weight"].detach().slice(0, 0, 3);
  const auto unit = w / w.norm(2, 1, true);
  const auto terms = g->route(input_of(normal({4, 6}, 3), true)).terms;
  EXPECT_NEAR(terms.at("simplicity").item<double>(), w.norm(2, 1).mean().item<double>(), 1e-5);
  EXPECT_NEAR(terms.at("diversity").item<double>(), (at::matmul(unit, unit.t()) - at::eye(3)).norm().item<double>(), 1e-5);
  expect_error(ErrorKind::config, {"start = 9"}, [] { (void)gate("dynmoe", {{"start", 9}}, 6, 8); });
}

}  // namespace
}  // namespace switchyard::whole_gates_test
