// What training does to gates, on problems of a second: the claims of papers that the routing bench (calibration_test.cpp) has no
// place for, since it fixes sizes and shows no layer. Every bar leaves room for another random generator.
#include "steps/adamw.h"
#include "support/gate_fixture.h"
#include "switchyard/loss.h"
#include "switchyard/moe.h"

#include <cmath>
#include <functional>

namespace switchyard::gate_headlines_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::input_of;
using testing::normal;
using testing::stats_of;

// `steps` steps of Adam on what `loss` says of step 0, 1, ...; on one parameter alone when `only` names it.
void train(const torch::nn::Module& module, int64_t steps, double lr, const std::function<torch::Tensor(int64_t step)>& loss, const std::string& only = "") {
  std::vector<TrainedParameter> parameters;
  for (const auto& item : module.named_parameters())
    if (item.value().requires_grad() && (only.empty() || item.key() == only)) parameters.push_back({item.key(), item.value(), false});
  AdamW adam(parameters, OptimizerOptions{.lr = lr, .beta2 = 0.999, .weight_decay = 0});
  for (int64_t step = 0; step < steps; ++step) {
    clear_gradients(parameters);
    loss(step).backward();
    adam.step(lr);
  }
}

GateInput training_input(const torch::Tensor& x, int64_t step) {
  auto in = input_of(x, true);
  in.step = step;
  in.random = RandomStream(1).at("step", static_cast<uint64_t>(step));
  return in;
}

// A loss that the gate itself forms.
LossSpec term(const char* name, double weight) { return read_loss({"gate_term", {{"term", name}, {"weight", weight}}}); }

// Tokens that all lean the same way, so that an untrained router is uneven.
torch::Tensor skewed(int64_t tokens, int64_t width, uint64_t seed) { return normal({tokens, width}, seed) + 1; }

// 64 experts as 8 x 8 with two of two: a token scores 8 groups and 2 * 8 experts instead of 64.
TEST(Hierarchical, EightTimesEightLeavesEvenOutWithTheLosses) {
  const auto cv_after = [](double weight) {
    auto gate = gate_registry().make(BlockSpec("hierarchical", {{"groups", 8}, {"k_groups", 2}, {"k", 2}, {"init_std", 0.3}}), GateShape{16, 64, 0, 1});
    const AuxLosses losses({LossSpec("importance", weight), term("load", weight)});
    if (weight > 0)
      train(*gate, 60, 1e-2, [&](int64_t step) {
        const auto stats = stats_of(*gate, training_input(skewed(512, 16, static_cast<uint64_t>(step)), step), 64);
        return losses({&stats, 1}).total;
      });
    const auto stats = stats_of(*gate, training_input(skewed(4096, 16, 999), 999), 64);
    EXPECT_EQ(stats.expert_ids.size(1), 4);
    return stats.load_cv();
  };
  const double before = cv_after(0), after = cv_after(0.1);
  EXPECT_TRUE(std::isfinite(before));
  EXPECT_LT(after, 0.5 * before);
}

TEST(StrictlyBalanced, LearnedThresholdsGiveNearlyEqualLoadsOutsideTraining) {
  auto gate = testing::gate_of({{"select", {{"kind", "strictly_balanced"}, {"k", 2}}}}, 8, 8);
  const auto loads = [&] {
    const auto counts = stats_of(*gate, input_of(skewed(8192, 8, 999)), 8).counts;
    return counts / (8192.0 * 2 / 8);
  };
  const auto worst = [&] { return (loads() - 1).abs().max().item<double>(); };
  EXPECT_GT(worst(), 0.5) << "thresholds of 1 / E do not balance a router that leans";
  train(*gate, 400, 1e-3, [&](int64_t step) {
    return gate->route(training_input(skewed(512, 8, static_cast<uint64_t>(step)), step)).terms.at("threshold") / 512;
  }, "select.threshold");
  EXPECT_LT(worst(), 0.08);
}

TEST(GShard, DropsFallWithTheBalanceLossFromASkewedRouter) {
  MoEOptions o{.d_model = 8, .d_expert = 8, .num_experts = 8,
               .gate = {"chain", {{"select", {{"kind", "top_k"}, {"k", 2}}}, {"weigh", "renormalise"}, {"keep", {{"kind", "random_second"}, {"policy", "random"}}}}},
               .experts = "relu", .capacity = {.factor = 1.0}, .losses = {read_loss({"load_balance", {{"count", "first"}, {"weight", 1.0}}})}};
  MoELayer layer(o);
  layer.train();
  {
    const torch::NoGradGuard no_grad;
    layer.named_parameters()["gate.score.weight"][3].fill_(0.7);
  }
  const auto dropped = [&] {
    MoETrace trace;
    const auto x = skewed(512, 8, 999);
    (void)layer.forward(x, training_input(x, 999), &trace);
    return trace.stats.dropped_fraction();
  };
  const double before = dropped();
  EXPECT_GT(before, 0.35);
  train(layer, 100, 1e-2, [&](int64_t step) { return layer(skewed(512, 8, static_cast<uint64_t>(step)), step).aux_loss; });
  EXPECT_LT(dropped(), 0.5 * before);
}

// Two tasks over four experts with known maps: the target of a task mixes two of them, and its static gate finds these two.
TEST(DSelectK, StaticGatesOfTwoTasksSettleOnAtMostKExperts) {
  const auto maps = normal({4, 6, 6}, 7);
  const std::vector<std::vector<std::pair<int64_t, double>>> mixtures = {{{0, 0.7}, {3, 0.3}}, {{1, 0.4}, {2, 0.6}}};
  for (size_t task = 0; task < mixtures.size(); ++task) {
    auto gate = gate_registry().make(BlockSpec("dselect_k", {{"k", 2}, {"per_token", false}}), GateShape{6, 4, 0, 3 + task});
    const auto weights = [&](const torch::Tensor& x) { return gate->route(input_of(x, true)); };
    const auto error = [&](const torch::Tensor& x, const torch::Tensor& q) {
      auto target = torch::zeros_like(x);
      for (const auto& [e, share] : mixtures[task]) target = target + share * at::matmul(x, maps[e].t());
      return (at::einsum("te,eij,tj->ti", {q, maps, x}) - target).square().mean();
    };
    train(*gate, 1000, 1e-2, [&](int64_t step) {
      const auto x = normal({32, 6}, static_cast<uint64_t>(step));
      const auto routing = weights(x);
      return error(x, routing.scores.probs) + 0.03 * routing.terms.at("entropy");
    });
    const auto choice = testing::choose(*gate, normal({4, 6}, 5000));
    EXPECT_LE(choice.expert_ids.size(1), 2) << "task " << task << ": codes have settled, other experts have exactly 0";
  }
}

// Regression on clusters that the token id names; both layers learn from their task alone.
TEST(StableMoE, RoutesStandStillAfterItsStageAndThoseOfTopOneGoOnMoving) {
  const auto centres = normal({8, 8}, 1), maps = normal({8, 8, 8}, 2);
  const auto moved = [&](const BlockSpec& gate, std::vector<LossSpec> losses) {
    MoELayer layer({.d_model = 8, .d_expert = 8, .num_experts = 4, .gate = gate, .experts = "linear", .losses = std::move(losses), .init_std = 0.1, .init_out_std = 0.1});
    layer.train();
    const auto batch = [&](uint64_t seed) {
      const auto ids = torch::arange(256, torch::kInt64) % 8;
      auto in = training_input(centres.index_select(0, ids) + normal({256, 8}, seed), static_cast<int64_t>(seed));
      in.token_ids = ids;
      return in;
    };
    const auto first_experts = [&] {
      const auto in = batch(9999);
      return std::get<TokenChoice>(layer.gate().route(in).choice).expert_ids.clone();
    };
    torch::Tensor half_way;
    const AuxLosses aux(layer.options().losses);
    train(layer, 80, 2e-2, [&](int64_t step) {
      if (step == 40) half_way = first_experts();
      const auto in = batch(static_cast<uint64_t>(step));
      MoETrace trace;
      const auto y = layer.forward(in.hidden, in, &trace);
      const auto target = at::einsum("tij,tj->ti", {maps.index_select(0, in.token_ids), in.hidden});
      const auto loss = (y - target).square().mean() + aux({&trace.stats, 1}).total;
      layer.gate().update(trace.stats);
      return loss;
    });
    return (first_experts() != half_way).to(torch::kFloat64).mean().item<double>();
  };
  EXPECT_EQ(moved({"stable", {{"vocab_size", 8}, {"stage_steps", 20}, {"width", 8}}}, {term("balance", 1e-3), term("distil", 1e-3)}), 0);
  EXPECT_GT(moved({"top_k", {{"k", 1}, {"renormalise", false}}}, {}), 0.01);
}

// Sequences of eight kinds of tokens; 16 slots per sequence, of one expert or of eight.
TEST(SoftMoe, MoreExpertsWithTheSameSlotsFitBetter) {
  const auto centres = 2 * normal({8, 8}, 1), maps = normal({8, 8, 8}, 2);
  const auto late_loss = [&](int64_t experts) {
    MoELayer layer({.d_model = 8, .d_expert = 8, .num_experts = experts, .gate = {"soft_moe", {{"tokens", 16}}}, .experts = "linear", .init_std = 0.1, .init_out_std = 0.1});
    layer.train();
    double late = 0;
    train(layer, 200, 1e-2, [&](int64_t step) {
      const auto kind = torch::arange(128, torch::kInt64) % 8;
      auto in = training_input(centres.index_select(0, kind) + 0.3 * normal({128, 8}, static_cast<uint64_t>(step)), step);
      in.sequence_ids = torch::arange(128, torch::kInt64).floor_divide(16);
      const auto target = at::einsum("tij,tj->ti", {maps.index_select(0, kind), in.hidden});
      const auto loss = (layer.forward(in.hidden, in) - target).square().mean();
      if (step >= 180) late += loss.item<double>() / 20;
      return loss;
    });
    return late;
  };
  EXPECT_LT(late_loss(8), 0.8 * late_loss(1));
}

}  // namespace
}  // namespace switchyard::gate_headlines_test
