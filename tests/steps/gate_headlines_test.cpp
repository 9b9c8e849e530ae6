// What training does to gates, on problems of a second: the claims of papers that the routing bench (calibration_test.cpp) has no
// place for, since it fixes sizes and shows no layer. Every bar leaves room for another random generator.
#include "steps/adamw.h"
#include "support/gate_fixture.h"
#include "switchyard/loss.h"
#include "switchyard/moe.h"
#include "tiny_run.h"

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

// Clusters with a map each, as batches of 256 tokens; the gate sees the noisy centre.
struct Clusters {
  torch::Tensor centres = normal({8, 8}, 1), maps = normal({8, 8, 8}, 2);

  struct Batch {
    torch::Tensor cluster, x, y;
  };
  [[nodiscard]] Batch batch(int64_t tokens, uint64_t seed) const {
    const auto cluster = torch::arange(tokens, torch::kInt64) % 8;
    const auto x = centres.index_select(0, cluster) + 0.5 * normal({tokens, 8}, seed);
    return {cluster, x, at::einsum("tij,tj->ti", {maps.index_select(0, cluster), x})};
  }
};

double error_of(const torch::Tensor& y, const torch::Tensor& target) { return (y - target).square().mean().item<double>(); }

// ST-MoE: a language model at ten times its learning rate keeps its logits smaller with the z-loss, and learns as much. The paper's
// 2 % is below what another instruction set moves the mean of three seeds here (3 %); docs/gates-bench.md has it on real text.
TEST(StMoE, RouterZKeepsLogitsSmallAtTenTimesTheLearningRate) {
  const testing::TempDir dir;
  testing::write_text(dir / "text.txt", testing::tiny_text(2000));
  double logit[2] = {}, loss[2] = {};
  for (const bool with_z : {false, true})
    for (uint64_t seed = 0; seed < 3; ++seed) {
      auto recipe = testing::tiny_recipe(dir / "text.txt");
      recipe.seed = seed;
      recipe.model.dropout = 0;
      recipe.model.moe->losses = {{"load_balance", {{"weight", 0.01}}}, {"router_z", {{"weight", with_z ? 1e-3 : 0.0}}}};
      recipe.train.steps = 300;
      recipe.train.batch_size = recipe.train.micro_batch = 8;
      recipe.train.eval_every = recipe.train.checkpoint_every = 0;
      recipe.train.eval_tokens = 4096;
      recipe.train.optimizer.lr = 10 * recipe.train.optimizer.lr;
      testing::Recorder recorder;
      const auto result = switchyard::train(recipe, {.folder = dir / ("run" + std::to_string(2 * seed + with_z))}, recorder);
      std::vector<int64_t> bytes;
      for (const char c : testing::tiny_text(20).substr(0, 8 * 32)) bytes.push_back(static_cast<unsigned char>(c));
      ModelTrace trace;
      ForwardOptions look;
      look.trace = &trace;
      const torch::NoGradGuard no_grad;
      (void)result.model->forward({torch::tensor(bytes, torch::kInt64).view({8, 32}), {}, {}}, look);
      double most = 0;
      for (const auto& [layer, moe] : trace.moe) most = std::max(most, moe.routing.scores.logits.abs().max().item<double>());
      logit[with_z] += most / 3;
      loss[with_z] += result.evaluation->loss / 3;
    }
  EXPECT_LT(logit[1], 0.85 * logit[0]);
  EXPECT_LT(loss[1], 1.06 * loss[0]);
}

// NLLB: few examples with noise in their targets, and experts wide enough to learn the noise by heart.
TEST(Nllb, MaskedExpertOutputsLeaveASmallerGapToUnseenData) {
  const Clusters task;
  double gap[2] = {}, unseen[2] = {};
  for (const bool masked : {false, true})
    for (uint64_t seed = 0; seed < 3; ++seed) {
      const BlockSpec gate("chain", {{"select", {{"kind", "top_k"}, {"k", 2}}}, {"weigh", "renormalise"}, {"keep", {{"kind", "masked_outputs"}, {"p", masked ? 0.2 : 0.0}}}});
      MoELayer layer({.d_model = 8, .d_expert = 64, .num_experts = 8, .gate = gate, .experts = "relu", .init_std = 0.3, .init_out_std = 0.3, .seed = seed});
      const auto few = task.batch(256, 100 + seed), many = task.batch(4096, 200 + seed);
      const auto noisy = few.y + 2 * normal({256, 8}, 300 + seed);
      layer.train();
      train(layer, 400, 1e-2, [&](int64_t step) { return (layer(few.x, step).hidden - noisy).square().mean(); });
      layer.eval();
      const auto error = [&](const torch::Tensor& x, const torch::Tensor& y) { return error_of(layer.forward(x, input_of(x)), y); };
      unseen[masked] += error(many.x, many.y + 2 * normal({4096, 8}, 400 + seed)) / 3;
      gap[masked] += (error(many.x, many.y + 2 * normal({4096, 8}, 400 + seed)) - error(few.x, noisy)) / 3;
    }
  EXPECT_LT(gap[1], 0.8 * gap[0]);
  EXPECT_LT(unseen[1], unseen[0]);
}

// Mod-Squad: what a task hardly uses can be taken out of its network. The tags are the clusters.
TEST(ModSquad, ATaskDoesWithoutTheExpertsThatItHardlyUses) {
  const Clusters task;
  MoELayer layer({.d_model = 8, .d_expert = 16, .num_experts = 12,
                  .gate = {"chain", {{"score", {{"kind", "linear_per_tag"}, {"tags", 8}}}, {"noise", {{"kind", "learned_gaussian"}, {"tags", 8}}},
                                     {"select", {{"kind", "top_k"}, {"k", 4}}}, {"weigh", "raw"}}},
                  .experts = "gelu",
                  .losses = {read_loss({"mutual_information", {{"of", "task"}, {"weight", 0.03}}}), read_loss({"top_k_sparsity", {{"k", 4}, {"weight", 0.1}}})},
                  .init_std = 0.3, .init_out_std = 0.3});
  layer.train();
  const AuxLosses aux(layer.options().losses);
  train(layer, 500, 1e-2, [&](int64_t step) {
    const auto b = task.batch(256, static_cast<uint64_t>(step));
    auto in = training_input(b.x, step);
    in.tags = b.cluster;
    MoETrace trace;
    const auto y = layer.forward(b.x, in, &trace);
    return (y - b.y).square().mean() + aux({&trace.stats, 1}).total;
  });
  layer.eval();
  const auto b = task.batch(8000, 999);
  auto in = input_of(b.x);
  in.tags = b.cluster;
  MoETrace trace;
  const double whole = error_of(layer.forward(b.x, in, &trace), b.y);
  auto routing = trace.routing;
  auto& choice = std::get<TokenChoice>(routing.choice);
  const auto share = torch::zeros({8, 12}).index_put_({b.cluster.unsqueeze(1).expand_as(choice.expert_ids), choice.expert_ids}, torch::ones({}), /*accumulate=*/true) / 1000.0;
  const auto rare = share < 0.05;
  const auto removed = rare.index({b.cluster.unsqueeze(1), choice.expert_ids});
  choice.expert_ids = choice.expert_ids.masked_fill(removed, -1);
  choice.weights = choice.weights.masked_fill(removed, 0);
  const double without = error_of(layer.apply(b.x, in, routing), b.y);
  EXPECT_GT(rare.sum().item<int64_t>(), 8 * 4) << "a task leaves most experts nearly unused";
  EXPECT_GT(removed.sum().item<int64_t>(), 0);
  EXPECT_LT(without, 1.01 * whole);
}

}  // namespace
}  // namespace switchyard::gate_headlines_test
