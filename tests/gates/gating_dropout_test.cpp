// Steps in which tokens stay on their own device, and the second experts of ST-MoE.
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/dispatch_plan.h"

namespace switchyard::gating_dropout_test {  // its own: tests of a folder compile as one unit
namespace {

using namespace switchyard::testing;

std::shared_ptr<Gate> local(double p, int64_t devices, int64_t device_tokens = 0, int64_t k = 2, int64_t num_experts = 8) {
  return gate_on_logits({{"noise", {{"kind", "gating_dropout"}, {"p", p}, {"devices", devices}, {"device_tokens", device_tokens}}},
                         {"select", {{"kind", "top_k"}, {"k", k}}}},
                        num_experts);
}

GateInput training_input(const torch::Tensor& z, uint64_t seed = 1, int64_t first_token = 0) {
  auto in = input_of(z, true);
  in.random = RandomStream(seed);
  in.first_token = first_token;
  return in;
}

TokenChoice choice_of(Gate& gate, const GateInput& in) { return std::get<TokenChoice>(gate.route(in).choice); }

TEST(GatingDropout, InSuchAStepEveryTokenChoosesTheBestOfItsOwnDevice) {
  const auto z = normal({12, 8}, 3);
  const auto got = choice_of(*local(1.0, 4), training_input(z));
  for (int64_t t = 0; t < 12; ++t) {
    const int64_t first = t / 3 * 2;  // three tokens and two experts per device
    const bool lower_wins = z[t][first].item<float>() >= z[t][first + 1].item<float>();
    EXPECT_EQ(got.expert_ids[t][0].item<int64_t>(), lower_wins ? first : first + 1) << t;
    EXPECT_EQ(got.expert_ids[t][1].item<int64_t>(), lower_wins ? first + 1 : first) << t;
    EXPECT_TRUE(all_close(got.weights[t], std::get<0>(at::softmax(z[t].slice(0, first, first + 2), 0).sort(0, true)), 1e-6)) << t;
  }
}

TEST(GatingDropout, OneDrawDecidesForTheWholeStepAndComesAsOftenAsItShould) {
  const auto z = normal({64, 8}, 3);
  auto gate = local(0.3, 2);
  const auto everywhere = choose(*gate, z), at_home = choice_of(*local(1.0, 2), training_input(z));
  ASSERT_FALSE(torch::equal(everywhere.expert_ids, at_home.expert_ids));
  int64_t stayed = 0;
  const int64_t steps = 2000;
  for (int64_t step = 0; step < steps; ++step) {
    const auto ids = choice_of(*gate, training_input(z, static_cast<uint64_t>(step))).expert_ids;
    const bool home = torch::equal(ids, at_home.expert_ids);
    EXPECT_TRUE(home || torch::equal(ids, everywhere.expert_ids)) << "some tokens stayed, others did not";
    stayed += home;
  }
  EXPECT_NEAR(static_cast<double>(stayed) / steps, 0.3, 3 * std::sqrt(0.3 * 0.7 / steps));
}

TEST(GatingDropout, IsOffOutsideTraining) {
  const auto z = normal({16, 8}, 3);
  EXPECT_TRUE(torch::equal(choose(*local(1.0, 4), z).expert_ids, choose(*gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 2}}}}, 8), z).expert_ids));
}

// Four devices of four tokens: the call of each sees what the call of all sees.
TEST(GatingDropout, TheDeviceOfATokenFollowsItsPlaceInTheStep) {
  const auto z = normal({16, 8}, 3);
  auto gate = local(1.0, 4, 4);
  const auto whole = choice_of(*gate, training_input(z)).expert_ids;
  EXPECT_TRUE(torch::equal(whole, choice_of(*local(1.0, 4), training_input(z)).expert_ids));
  for (int64_t rank = 0; rank < 4; ++rank) {
    const auto mine = choice_of(*gate, training_input(z.slice(0, 4 * rank, 4 * rank + 4), 1, 4 * rank)).expert_ids;
    EXPECT_TRUE(torch::equal(mine, whole.slice(0, 4 * rank, 4 * rank + 4))) << rank;
    EXPECT_TRUE(mine.floor_divide(2).eq(rank).all().item<bool>()) << "nothing leaves the device";
  }
}

TEST(GatingDropout, ADeviceWithFewerExpertsThanChoicesLeavesChoicesEmpty) {
  const auto got = choice_of(*local(1.0, 4, 0, 2, 4), training_input(normal({8, 4}, 3)));
  EXPECT_TRUE(got.expert_ids.select(1, 1).eq(-1).all().item<bool>());
  EXPECT_TRUE(got.weights.select(1, 1).eq(0).all().item<bool>());
  EXPECT_TRUE(all_close(got.weights.select(1, 0), torch::ones({8}), 1e-6));
  EXPECT_TRUE(torch::equal(got.expert_ids.select(1, 0), torch::arange(8).floor_divide(2)));
}

TEST(GatingDropout, ScoresOfTheZLossStayThoseBeforeIt) {
  const auto z = normal({8, 8}, 3);
  const auto routing = local(1.0, 2)->route(training_input(z));
  EXPECT_TRUE(all_close(routing.scores.logits, z, 1e-6));
  EXPECT_TRUE(routing.scores.probs.slice(0, 0, 4).slice(1, 4).eq(0).all().item<bool>());
}

TEST(GatingDropout, WhatMakesNoSenseIsRefused) {
  expect_error(ErrorKind::config, {"p = 1.5"}, [] { (void)local(1.5, 2); });
  expect_error(ErrorKind::config, {"devices = 3", "num_experts = 8"}, [] { (void)local(0.5, 3); });
  expect_error(ErrorKind::config, {"devices = 0"}, [] { (void)local(0.5, 0); });
  expect_error(ErrorKind::config, {"device_tokens = -1"}, [] { (void)local(0.5, 2, -1); });
  expect_error(ErrorKind::config, {"pool = 'token'"}, [] {
    auto gate = gate_on_logits({{"pool", "sequence"}, {"noise", {{"kind", "gating_dropout"}, {"p", 1.0}, {"devices", 2}}}, {"select", {{"kind", "top_k"}, {"k", 2}}}});
    auto in = training_input(fixture_logits());
    in.sequence_ids = torch::zeros({6}, torch::kInt64);
    (void)gate->route(in);
  });
}

// ST-MoE ---------------------------------------------------------------------------------------------------------------

TEST(StMoe, TheSecondExpertIsSentAsOftenAsItsWeightOverTheThresholdSays) {
  auto gate = gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 2}}}, {"keep", {{"kind", "random_second"}, {"policy", "scaled"}, {"threshold", 0.2}}}});
  const int64_t draws = 10000;
  const auto choice = choice_of(*gate, training_input(fixture_logits().repeat({draws, 1})));
  const auto sent = (choice.expert_ids.select(1, 1) >= 0).to(torch::kFloat64).view({draws, 6}).mean(0);
  // Only token 2 has a second weight below 0.2: e / (e^3 + e) = .119203.
  EXPECT_TRUE(all_close(sent, torch::tensor({1.0, 1.0, .119203 / 0.2, 1.0, 1.0, 1.0}), 3 * 0.5 / 100));
  EXPECT_EQ((choose(*gate, fixture_logits()).expert_ids < 0).sum().item<int64_t>(), 0) << "outside training all are sent";
}

TEST(StMoe, TheOtherCodeKeepsBothExpertsWithTheirProbabilities) {
  auto gate = gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 2}}}, {"weigh", "raw"}});
  const auto choice = choice_of(*gate, training_input(fixture_logits()));
  EXPECT_TRUE(torch::equal(choice.expert_ids, ids_of({{0, 1}, {1, 0}, {0, 2}, {2, 3}, {0, 1}, {3, 0}})));
  EXPECT_TRUE(all_close(choice.weights[0], torch::tensor({.643914, .236883}), 1e-5));
  EXPECT_TRUE(all_close(choice.weights[2], torch::tensor({.789137, .106798}), 1e-5));
}

TEST(StMoe, CapacityDoesNotCountTheSecondChoice) {
  CapacityOptions o{.factor = 1.25, .eval_factor = 2.0, .counts_k = false, .rounding = "floor"};
  EXPECT_EQ(capacity_of(o, 100, 2, 8, true), 15);   // floor(1.25 * 100 / 8)
  EXPECT_EQ(capacity_of(o, 100, 2, 8, false), 25);  // 2 * 100 / 8
  o.counts_k = true;
  o.factor = 0.625;  // the same in the other convention
  EXPECT_EQ(capacity_of(o, 100, 2, 8, true), 15);
}

}  // namespace
}  // namespace switchyard::gating_dropout_test
