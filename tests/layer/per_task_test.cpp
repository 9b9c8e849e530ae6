// Mod-Squad: routers per task over shared experts, the loss that gives tasks experts of their own, and what is left of a layer
// for one task.
#include "expect_error.h"
#include "layer/tag_network.h"
#include "support/gate_fixture.h"

#include <cmath>

namespace switchyard::per_task_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;
using testing::finite_difference_gap;
using testing::fixture_logits;
using testing::normal;

constexpr int64_t kTasks = 3, kExperts = 6, kWidth = 8;

BlockSpec per_task(int64_t k, double init_scale, bool noise = true) {
  return {"chain", {{"score", {{"kind", "linear_per_tag"}, {"tags", kTasks}, {"init_scale", init_scale}}}, {"select", {{"kind", "top_k"}, {"k", k}}}, {"weigh", "raw"},
                    {"noise", noise ? ConfigNode{{"kind", "learned_gaussian"}, {"tags", kTasks}} : ConfigNode("none")}}};
}

MoEOptions options_of(const BlockSpec& gate) {
  MoEOptions o{.d_model = kWidth, .d_expert = 5, .num_experts = kExperts, .gate = gate};
  o.init_std = o.init_out_std = 0.5;
  o.seed = 5;
  return o;
}

GateInput tagged(const torch::Tensor& tag, bool training = false) {
  GateInput in;
  in.tags = tag;
  in.training = training;
  return in;
}

torch::Tensor in_turn(int64_t tokens) { return torch::arange(tokens, torch::kInt64) % kTasks; }

TEST(PerTaskGate, EveryTaskHasItsOwnRouterAndNoise) {
  MoELayer layer(options_of(per_task(2, 4.0)));
  const auto p = layer.named_parameters();
  ASSERT_EQ(p["gate.score.weight"].sizes(), torch::IntArrayRef({kTasks, kExperts, kWidth}));
  EXPECT_EQ(p["gate.noise.weight"].abs().sum().item<double>(), 0) << "starts at zero";
  {
    torch::NoGradGuard no_grad;
    p["gate.noise.weight"].copy_(normal({kTasks, kExperts, kWidth}, 1));
  }
  const auto x = normal({10, kWidth}, 2);
  const auto tag = in_turn(10);
  auto in = tagged(tag, true);
  in.hidden = x;
  const auto scores = layer.gate().route(in).scores;
  for (int64_t t = 0; t < 10; ++t) {
    const auto m = tag[t].item<int64_t>();
    EXPECT_TRUE(all_close(scores.logits[t], at::mv(p["gate.score.weight"][m], x[t]), 1e-5)) << t;
    EXPECT_TRUE(all_close(scores.noise_std[t], at::softplus(at::mv(p["gate.noise.weight"][m], x[t])) + 1e-2, 1e-5)) << t;
  }
  MoELayer fresh(options_of(per_task(2, 0.0)));
  EXPECT_EQ(fresh.named_parameters()["gate.score.weight"].abs().sum().item<double>(), 0);
  in.training = false;
  EXPECT_FALSE(layer.gate().route(in).scores.noise_std.defined()) << "off outside training";
}

TEST(PerTaskGate, PaddingNeedsNoTagAndWrongTagsAreNamed) {
  MoELayer layer(options_of(per_task(2, 4.0)));
  auto in = tagged(torch::tensor({1, -1, 2}, torch::kInt64));
  in.valid = torch::tensor({true, false, true});
  EXPECT_EQ(layer.forward(normal({3, kWidth}, 3), in)[1].abs().sum().item<double>(), 0);
  expect_error(ErrorKind::usage, {"linear_per_tag", "tag 3", "0 .. 2"}, [&] { (void)layer.forward(normal({1, kWidth}, 3), tagged(torch::full({1}, 3, torch::kInt64))); });
  expect_error(ErrorKind::usage, {"linear_per_tag", "GateInput::tags"}, [&] { (void)layer.forward(normal({1, kWidth}, 3), {}); });
  expect_error(ErrorKind::config, {"linear_per_tag", "tags = 0"}, [] { (void)testing::gate_of({{"score", "linear_per_tag"}}, 4, 4); });
}

RoutingStats stats_of(const torch::Tensor& logits, const torch::Tensor& tags) {
  auto in = testing::input_of(logits);
  in.tags = tags;
  return testing::stats_of(*testing::gate_on_logits({{"weigh", "raw"}}, logits.size(1)), in, logits.size(1));
}

double value(const BlockSpec& loss, const RoutingStats& stats) { return loss_registry().make(loss)->value(stats).item<double>(); }

// Oracle: I(task; expert) by its definition, in double precision.
double information(const torch::Tensor& probs, const torch::Tensor& tags) {
  std::vector<std::vector<double>> joint(kTasks, std::vector<double>(static_cast<size_t>(probs.size(1))));
  for (int64_t t = 0; t < probs.size(0); ++t)
    for (int64_t e = 0; e < probs.size(1); ++e)
      joint[static_cast<size_t>(tags[t].item<int64_t>())][static_cast<size_t>(e)] += probs[t][e].item<double>() / static_cast<double>(probs.size(0));
  double sum = 0;
  for (size_t m = 0; m < joint.size(); ++m)
    for (size_t e = 0; e < joint[m].size(); ++e) {
      double task = 0, expert = 0;
      for (const double j : joint[m]) task += j;
      for (const auto& row : joint) expert += row[e];
      if (joint[m][e] > 0) sum += joint[m][e] * std::log(joint[m][e] / (task * expert));
    }
  return sum;
}

TEST(TaskInformation, IsMinusTheInformationBetweenTaskAndExpert) {
  const BlockSpec loss = {"mutual_information", {{"of", "task"}}};
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const auto z = normal({30, kExperts}, 20 + seed) * 3;
    EXPECT_NEAR(value(loss, stats_of(z, in_turn(30))), -information(at::softmax(z, 1), in_turn(30)), 2e-4) << seed;
  }
  // Between its bounds: tasks with experts of their own, and experts that all tasks use alike.
  const auto own = at::one_hot(in_turn(30), kExperts).to(torch::kFloat32) * 60;
  EXPECT_NEAR(value(loss, stats_of(own, in_turn(30))), -std::log(3.0), 2e-4);
  EXPECT_NEAR(value(loss, stats_of(normal({1, kExperts}, 30).expand({30, kExperts}).contiguous(), in_turn(30))), 0, 2e-4);
}

TEST(TopKSparsity, IsWhatATaskGivesBeyondItsBestExperts) {
  const auto tags = torch::tensor({0, 0, 0, 2, 2, 2}, torch::kInt64);
  const auto p = at::softmax(fixture_logits(), 1);
  for (int64_t k : {1, 2, 3}) {
    double want = 0;
    for (const auto& mean : {p.slice(0, 0, 3).mean(0), p.slice(0, 3).mean(0)}) {
      const auto sorted = std::get<0>(mean.sort(0, /*descending=*/true));
      for (int64_t i = k; i < 4; ++i) want += std::pow(sorted[i].item<double>(), 2);
    }
    EXPECT_NEAR(value({"top_k_sparsity", {{"k", k}}}, stats_of(fixture_logits(), tags)), want, 1e-6) << k;
  }
  EXPECT_EQ(value({"top_k_sparsity", {{"k", 4}}}, stats_of(fixture_logits(), tags)), 0);
  auto z = fixture_logits().to(torch::kFloat64).requires_grad_();
  auto gate = testing::gate_on_logits({{"weigh", "raw"}});
  gate->to(torch::kFloat64);
  const auto loss = loss_registry().make(BlockSpec("top_k_sparsity", {{"k", 2}}));
  const auto of = [&] {
    auto in = testing::input_of(z);
    in.tags = tags;
    return loss->value(testing::stats_of(*gate, in, 4));
  };
  EXPECT_LT(finite_difference_gap(of, z, 24), 1e-6);
  expect_error(ErrorKind::config, {"top_k_sparsity", "k = 0"}, [] { (void)loss_registry().make(BlockSpec("top_k_sparsity", {{"k", 0}})); });
}

TEST(TaskSubModel, TokensWhoseExpertsAreAllThereGetTheSameOutput) {
  MoELayer layer(options_of(per_task(2, 4.0)));
  {
    torch::NoGradGuard no_grad;  // task 1 likes experts 1, 4 and 5
    auto w = layer.named_parameters()["gate.score.weight"];
    w[1].index_fill_(0, torch::tensor({0, 2, 3}, torch::kInt64), 0);
  }
  const auto x = normal({60, kWidth}, 6);
  const auto tag = torch::full({60}, 1, torch::kInt64);
  MoETrace trace;
  const auto whole = layer.forward(x, tagged(tag), &trace);
  const std::vector<int64_t> kept = {1, 4, 5};
  const auto small = with_experts(layer, kept);
  EXPECT_EQ(small->options().num_experts, 3);
  const auto y = small->forward(x, tagged(tag));
  const auto ids = trace.stats.expert_ids;
  const auto there = ((ids == 1) | (ids == 4) | (ids == 5)).all(1);
  ASSERT_GT(there.sum().item<int64_t>(), 10);
  ASSERT_LT(there.sum().item<int64_t>(), 60);
  EXPECT_TRUE(torch::equal(y.index({there}), whole.index({there})));
  // The others: by loops over what is left.
  const auto& choice = std::get<TokenChoice>(trace.routing.choice);
  const auto p = layer.named_parameters();
  const auto left = (choice.expert_ids == 1) | (choice.expert_ids == 4) | (choice.expert_ids == 5);
  EXPECT_TRUE(all_close(y, testing::moe_by_loops(x, choice, left, testing::ffn_expert("swiglu", p["experts.w_in"], p["experts.w_out"])), 1e-5));
}

TEST(TaskSubModel, ExpertsThatATaskHardlyUsesAreLeftOut) {
  RoutingStats stats{.num_experts = 4};
  stats.tags = torch::tensor({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, torch::kInt64);
  stats.expert_ids = testing::ids_of({{0, 2}, {0, 2}, {0, 2}, {0, 2}, {0, 2}, {0, 2}, {0, 2}, {0, 2}, {0, 2}, {0, 3}, {1, -1}});
  EXPECT_EQ(experts_used(stats, 0, 0.06), (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(experts_used(stats, 0), (std::vector<int64_t>{0, 2, 3})) << "1 of 20 is 5 %";
  EXPECT_EQ(experts_used(stats, 1), std::vector<int64_t>{1});
  expect_error(ErrorKind::usage, {"experts_used"}, [] { (void)experts_used(RoutingStats{}, 0); });
  expect_error(ErrorKind::config, {"subset", "expert 7"}, [] {
    (void)gate_registry().make(BlockSpec("subset", {{"of", 4}, {"experts", ConfigNode::Array{1, 7}}}), GateShape{4, 2, 0, 1});
  });
  expect_error(ErrorKind::config, {"subset", "of = 1"}, [] {
    (void)gate_registry().make(BlockSpec("subset", {{"of", 1}, {"experts", ConfigNode::Array{0, 1}}}), GateShape{4, 2, 0, 1});
  });
}

}  // namespace
}  // namespace switchyard::per_task_test
