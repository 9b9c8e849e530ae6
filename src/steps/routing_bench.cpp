#include "steps/routing_bench.h"

#include "eval/expert_shares.h"
#include "steps/adamw.h"
#include "switchyard/error.h"
#include "switchyard/moe.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <limits>

namespace switchyard {
namespace {

constexpr int64_t kWidth = 16, kIds = 64, kIdsPerCluster = kIds / kBenchClusters, kSequence = 64, kLastSteps = 30;
constexpr double kShare = 0.3, kLearningRate = 1e-2, kExpertInit = 0.1, kRouterInit = 0.1;

torch::Tensor normal(const RandomStream& stream, std::vector<int64_t> shape) {
  auto out = torch::empty(shape, torch::kFloat32);
  stream.fill_normal(out.data_ptr<float>(), out.numel());
  return out;
}

// The mixture, and the tokens that are drawn from it: functions of the step alone.
class Clusters {
 public:
  struct Step {
    torch::Tensor ids, clusters;  // [T] int64
    torch::Tensor x, y;           // [T, d]
  };

  [[nodiscard]] Step step(int64_t number, bool one_cluster_per_sequence) const {
    const auto stream = stream_.at("step", static_cast<uint64_t>(number));
    auto ids = torch::empty({kBenchTokens}, torch::kInt64);
    for (int64_t t = 0; t < kBenchTokens; ++t) {
      auto id = static_cast<int64_t>(stream.at("id").below(static_cast<uint64_t>(t), kIds));
      if (one_cluster_per_sequence) id = cluster_of(stream, t / kSequence) * kIdsPerCluster + id % kIdsPerCluster;
      ids.data_ptr<int64_t>()[t] = id;
    }
    const auto clusters = at::floor_divide(ids, kIdsPerCluster);
    const auto x = centre_.index_select(0, clusters) + kShare * offset_.index_select(0, ids) + kShare * normal(stream.at("noise"), {kBenchTokens, kWidth});
    const auto y = at::matmul(map_.index_select(0, clusters), x.unsqueeze(2)).squeeze(2);
    return {ids, clusters, x, y};
  }

 private:
  static int64_t cluster_of(const RandomStream& stream, int64_t sequence) {
    return static_cast<int64_t>(stream.at("cluster").below(static_cast<uint64_t>(sequence), kBenchClusters));
  }

  RandomStream stream_{0, "routing bench"};
  torch::Tensor centre_ = normal(stream_.at("mu"), {kBenchClusters, kWidth});
  torch::Tensor offset_ = normal(stream_.at("off"), {kIds, kWidth});
  torch::Tensor map_ = normal(stream_.at("A"), {kBenchClusters, kWidth, kWidth}) / std::sqrt(static_cast<double>(kWidth));
};

std::shared_ptr<MoELayer> layer_of(const MoESpec& recipe, uint64_t seed) {
  const double init = kExpertInit / std::sqrt(static_cast<double>(kWidth));
  auto layer = std::make_shared<MoELayer>(MoEOptions{.d_model = kWidth, .d_expert = kWidth, .num_experts = kBenchExperts, .gate = recipe.gate, .experts = "linear",
                                                     .num_shared_experts = recipe.join.kind == "sum" ? 0 : 1, .join = recipe.join,
                                                     .routed_scale = recipe.routed_scale, .capacity = recipe.capacity, .init_std = init, .init_out_std = init, .seed = seed});
  // Other scores keep the initial weights that belong to them (unit rows, zeros, orthogonal matrices).
  const c10::NoGradGuard no_grad;
  for (auto& item : layer->gate().named_parameters()) {
    torch::Tensor& weight = item.value();
    if (item.key() == "score.weight" && weight.dim() == 2 && weight.size(1) == kWidth)
      weight.copy_(kRouterInit * normal(RandomStream(seed, "bench router"), weight.sizes().vec()));
  }
  layer->train();
  return layer;
}

AdamW adam_of(MoELayer& layer) {
  std::vector<TrainedParameter> parameters;
  for (const auto& item : layer.named_parameters())
    if (item.value().requires_grad()) parameters.push_back({item.key(), item.value(), false});
  return AdamW(std::move(parameters), OptimizerOptions{.lr = kLearningRate, .beta1 = 0.9, .beta2 = 0.999, .weight_decay = 0});
}

AuxLosses losses_of(const MoESpec& recipe) {
  std::vector<LossSpec> specs;
  for (const auto& loss : recipe.losses) specs.push_back(read_loss(loss));
  return AuxLosses(specs);
}

// Sums over the last steps.
class Tally {
 public:
  void add(const MoETrace& trace, const torch::Tensor& clusters, double loss) {
    const RoutingStats& s = trace.stats;
    const double kept = s.kept_counts.sum().item<double>();
    const bool has_load = s.counts.sum().item<double>() > 0;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    sum_.task_loss += loss;
    sum_.load_cv += has_load ? s.load_cv() : nan;
    sum_.load_cv_floor += has_load ? s.load_cv_floor() : nan;
    sum_.dropped += s.dropped_fraction();
    sum_.entropy += s.scores.probs.defined() ? s.entropy() : nan;
    sum_.experts_per_token += kept / static_cast<double>(kBenchTokens);
    joint_.index_add_(0, clusters, expert_choices(trace.routing, kBenchTokens, kBenchExperts).to(torch::kFloat64));
    ++steps_;
  }

  [[nodiscard]] RoutingBenchResult mean() const {
    RoutingBenchResult out = sum_;
    for (double* value : {&out.task_loss, &out.load_cv, &out.load_cv_floor, &out.dropped, &out.entropy, &out.experts_per_token}) *value /= static_cast<double>(steps_);
    // I = sum p(c, e) ln p(c, e) / (p(c) p(e)); cells without choices add nothing.
    const auto p = joint_ / joint_.sum().clamp_min(1e-12), independent = p.sum(1, true) * p.sum(0, true);
    out.mutual_information = (p * (p.clamp_min(1e-30) / independent.clamp_min(1e-30)).log()).sum().item<double>();
    const auto load = p.sum(0).contiguous();
    out.load.assign(load.data_ptr<double>(), load.data_ptr<double>() + kBenchExperts);
    return out;
  }

 private:
  RoutingBenchResult sum_;
  torch::Tensor joint_ = torch::zeros({kBenchClusters, kBenchExperts}, torch::kFloat64);
  int64_t steps_ = 0;
};

GateInput input_of(const Clusters::Step& data, int64_t step, const RoutingBenchOptions& options) {
  GateInput input;
  input.token_ids = data.ids;
  input.tags = at::floor_divide(data.clusters, kBenchClusters / options.tags);
  const auto place = torch::arange(kBenchTokens, torch::kInt64);
  input.sequence_ids = at::floor_divide(place, kSequence);
  input.positions = at::remainder(place, kSequence);
  input.training = true;
  input.step = step;
  input.random = RandomStream(options.seed).at("layer", 0).at("step", static_cast<uint64_t>(step));
  return input;
}

RoutingStats without_gradient(RoutingStats stats) {
  for (torch::Tensor* tensor : differentiable(stats)) *tensor = tensor->detach();
  return stats;
}

}  // namespace

RoutingBenchResult run_routing_bench(const MoESpec& recipe, const RoutingBenchOptions& options) {
  if (options.steps < 1) fail(ErrorKind::usage, "clusters: {} steps, expected at least 1", options.steps);
  if (options.tags < 1 || kBenchClusters % options.tags != 0)
    fail(ErrorKind::config, "clusters: tags = {}, expected a divisor of the {} clusters", options.tags, kBenchClusters);
  const Clusters clusters;
  const auto layer = layer_of(recipe, options.seed);
  const auto losses = losses_of(recipe);
  auto adam = adam_of(*layer);
  Tally tally;
  for (int64_t step = 0; step < options.steps; ++step) {
    const auto data = clusters.step(step, options.one_cluster_per_sequence);
    MoETrace trace;
    const auto y = layer->forward(data.x, input_of(data, step, options), &trace);
    const auto token_loss = (y - data.y).square().mean(1);
    const auto task_loss = token_loss.mean();
    const double value = task_loss.item<double>();
    if (!std::isfinite(value)) fail(ErrorKind::numeric, "clusters: the loss of gate '{}' is {} at step {}", recipe.gate.kind, value, step + 1);
    clear_gradients(adam.parameters());
    trace.stats.token_loss = token_loss.detach();  // gates that learn by reward ask for it
    (task_loss + losses({&trace.stats, 1}).total).backward();
    adam.step(kLearningRate);
    layer->gate().update(without_gradient(trace.stats));
    if (step >= options.steps - kLastSteps) tally.add(trace, data.clusters, value);
  }
  return tally.mean();
}

}  // namespace switchyard
