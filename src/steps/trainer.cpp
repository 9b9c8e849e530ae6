#include "steps/trainer.h"

#include "base/clock.h"
#include "core/beside.h"
#include "core/ops.h"
#include "eval/batch_tensors.h"
#include "steps/consistency.h"
#include "steps/numeric_checks.h"
#include "steps/schedule.h"
#include "switchyard/error.h"

#include <c10/core/GradMode.h>
#include <fmt/ranges.h>

#include <limits>

namespace switchyard {
namespace {

constexpr const char* kBufferPrefix = "buffer.";

RoutingStats detached(const RoutingStats& stats) {
  RoutingStats out = stats;
  for (torch::Tensor* tensor : differentiable(out)) *tensor = tensor->detach();
  return out;
}

// Layer by layer over all micro-batches.
std::vector<RoutingStats> over_micro_batches(const std::vector<std::vector<RoutingStats>>& passes) {
  if (passes.size() == 1) return passes[0];
  std::vector<RoutingStats> out;
  for (size_t i = 0; i < passes[0].size(); ++i) {
    std::vector<RoutingStats> parts;
    for (const auto& pass : passes) parts.push_back(pass[i]);
    out.push_back(pooled(parts));
    out.back().layer = parts[0].layer;
  }
  return out;
}

LayerMetrics layer_metrics(const RoutingStats& stats) {
  LayerMetrics out{.layer = stats.layer,
                   .load_cv = stats.load_cv(),
                   .load_cv_floor = stats.load_cv_floor(),
                   .dropped = stats.dropped_fraction(),
                   .entropy = stats.entropy()};
  const torch::Tensor counts = stats.counts.to(torch::kFloat64).contiguous();
  const double* count = counts.data_ptr<double>();
  double pairs = 0;
  for (int64_t e = 0; e < counts.numel(); ++e) pairs += count[e];
  for (int64_t e = 0; e < counts.numel(); ++e) out.load.push_back(pairs > 0 ? count[e] / pairs : 0);
  return out;
}

// Gates that learn by reward see what their tokens cost; NaN where nothing is scored.
void tell_token_loss(std::vector<RoutingStats>& layers, const torch::Tensor& losses, const LabelledBatch& batch) {
  auto cost = torch::where(batch.labels == data::kIgnoredLabel, torch::full({}, std::numeric_limits<float>::quiet_NaN()), losses);
  const auto valid = (batch.tokens.segments >= 0).view({-1});
  if (!valid.all().item<bool>()) cost = cost.index({valid});
  for (RoutingStats& stats : layers) stats.token_loss = cost;
}

void add_mean(std::vector<LossValue>& sum, const std::vector<LossValue>& values, double share) {
  if (sum.empty()) for (const LossValue& v : values) sum.push_back({v.name, 0, 0});
  for (size_t i = 0; i < values.size(); ++i) {
    sum[i].raw += values[i].raw * share;
    sum[i].weighted += values[i].weighted * share;
  }
}

AdamW make_optimizer(LanguageModel& model, const OptimizerOptions& options) {
  freeze_parameters(model, options);
  return {trained_parameters(model, options), options};
}

bool belongs_to_a_mixture(const std::string& parameter) { return parameter.find(".mixtures.") != std::string::npos; }

}  // namespace

// Forward and backward over one micro-batch: one pass, or two that must agree.
struct Trainer::Pass {
  double loss = 0;  // its part of the step's mean; the mean over the passes
  std::vector<std::vector<RoutingStats>> stats;  // by pass: MoE layers, then mixtures
  std::vector<LossValue> aux;
  std::vector<RoutedPass> routed;  // for the tuning of routers
};

Trainer::Trainer(std::shared_ptr<LanguageModel> model, const TrainOptions& options, uint64_t seed, BatchSource batches)
    : model_(std::move(model)),
      options_(options),
      seed_(seed),
      batches_(std::move(batches)),
      optimizer_(make_optimizer(*model_, options.optimizer)),
      compute_(parse_compute_type(options.compute)) {
  if (const auto& tuning = options.router_tuning) tuning_ = std::make_unique<RouterTuning>(tuned_routers(*model_, *tuning), *tuning, seed);
}

Trainer::Pass Trainer::forward_backward(const data::Batch& batch, int64_t micro, int64_t scored_tokens) {
  const LabelledBatch tensors = to_tensors(batch);
  const ComputeScope scope(compute_);
  const auto [passes, alpha] = options_.consistency;
  const auto scored = static_cast<double>(std::max<int64_t>(scored_tokens, 1)), micro_batches = static_cast<double>(options_.micro_batches());
  Pass pass;
  torch::Tensor objective, logits_before;
  for (int64_t i = 0; i < passes; ++i) {
    ModelTrace trace;
    ModelOutput output = model_->forward(tensors.tokens, {.step = steps_done_,
                                                                .first_token = micro * batch.batch * batch.seq,
                                                                .seed = seed_of_pass(seed_, i),
                                                                .trace = has_surrogate() ? &trace : nullptr,
                                                                .checkpoint_activations = options_.activation_checkpointing});
    const torch::Tensor all = model_->logits(output.hidden), logits = all.reshape({-1, all.size(-1)});
    const torch::Tensor losses = ops::cross_entropy(logits, tensors.labels), loss = losses.sum() / scored;
    tell_token_loss(output.stats, on_cpu(losses.detach()), tensors);
    const AuxLoss aux = model_->aux_loss(output);
    auto& stats = pass.stats.emplace_back();
    for (const RoutingStats& layer : output.stats) stats.push_back(detached(layer));
    for (const MixtureStats& mixture : output.mixtures) stats.push_back(detached(mixture.stats));
    check_routing(stats, steps_done_ + 1, last_loss_, parameters());
    check_loss(loss.item<double>(), steps_done_ + 1, last_loss_, stats, parameters());
    pass.loss += loss.item<double>() / static_cast<double>(passes);
    add_mean(pass.aux, aux.values, 1 / static_cast<double>(passes));
    if (has_surrogate()) pass.routed.push_back(routed_pass(trace, std::span(stats).first(output.stats.size())));
    torch::Tensor total = on_cpu(loss) + aux.total / micro_batches;
    if (tuning_ && !has_surrogate()) {
      const torch::Tensor latency = tuning_->latency(output.stats), off = tuning_->latency_loss(latency);
      total = total + off / micro_batches;
      if (i == 0) pass.aux.push_back({"latency", latency.item<double>(), off.item<double>()});
    }
    objective = objective.defined() ? objective + total : total;
    if (i > 0) {
      const torch::Tensor gap = disagreement(logits_before, logits, tensors.labels) / scored;
      pass.aux.push_back({"consistency", gap.item<double>() * micro_batches, gap.item<double>() * micro_batches * alpha});
      objective = objective + alpha * on_cpu(gap);
    }
    logits_before = logits;
  }
  objective.backward();
  return pass;
}

void Trainer::update_gates(std::span<const RoutingStats> stats) {
  if (options_.optimizer.router_lr_scale == 0) return;  // routes are frozen: no state of theirs moves either
  std::vector<MoELayer*> layers;
  for (const auto& [layer, moe] : model_->moe_layers()) layers.push_back(moe);
  for (MoELayer* mixture : model_->mixtures()) layers.push_back(mixture);
  for (size_t i = 0; i < layers.size() && i < stats.size(); ++i) layers[i]->gate().update(stats[i]);
}

// While it is there, the loss of the model does not reach the routers.
bool Trainer::has_surrogate() const {
  return tuning_ && (tuning_->options().steps == 0 || steps_done_ < tuning_->options().steps);
}

void Trainer::tune_routers(std::span<const RoutedPass> passes, StepMetrics& metrics) {
  double latency = 0;
  for (const RoutedPass& pass : passes) latency += tuning_->latency(pass.stats).item<double>() / static_cast<double>(passes.size());
  const double error = tuning_->learn(passes), off = std::abs(latency - tuning_->options().target);
  metrics.aux.push_back({"surrogate_error", error, 0});
  metrics.aux.push_back({"latency", latency, tuning_->options().lambda * off});
  if (tuning_->ready()) tuning_->tune(passes);
}

StepMetrics Trainer::step() {
  const auto start = Clock::now();
  std::vector<data::Batch> batches;
  int64_t scored = 0, tokens = 0;
  for (int64_t micro = 0; micro < options_.micro_batches(); ++micro) {
    batches.push_back(batches_(steps_done_, micro));
    scored += batches.back().scored_tokens;
    tokens += batches.back().batch * batches.back().seq;
  }

  model_->train();
  clear_gradients(parameters());
  StepMetrics metrics{.step = steps_done_ + 1, .steps = options_.steps};
  std::vector<std::vector<RoutingStats>> stats;
  std::vector<RoutedPass> routed;
  for (size_t micro = 0; micro < batches.size(); ++micro) {
    Pass pass = forward_backward(batches[micro], static_cast<int64_t>(micro), scored);
    metrics.loss += pass.loss;
    add_mean(metrics.aux, pass.aux, 1 / static_cast<double>(batches.size()));
    for (auto& one : pass.stats) stats.push_back(std::move(one));
    for (auto& one : pass.routed) routed.push_back(std::move(one));
  }

  if (has_surrogate())
    for (const TrainedParameter& p : parameters())
      if (is_router(p.name)) p.tensor.mutable_grad() = torch::Tensor();
  metrics.grad_norm = gradient_norm(parameters());
  check_gradient(metrics.grad_norm, metrics.step, metrics.loss, parameters());
  metrics.lr = options_.optimizer.lr * schedule_factor(options_.schedule, steps_done_, options_.steps);
  optimizer_.step(metrics.lr, clip_factor(metrics.grad_norm, options_.grad_clip));
  clear_gradients(parameters());
  const std::vector<RoutingStats> merged = over_micro_batches(stats);
  update_gates(merged);
  if (has_surrogate()) tune_routers(routed, metrics);

  for (const RoutingStats& layer : std::span(merged).first(model_->moe_layers().size())) metrics.layers.push_back(layer_metrics(layer));
  ++steps_done_;
  last_loss_ = metrics.loss;
  const double elapsed = seconds_since(start);
  metrics.tokens = tokens_ += tokens;
  metrics.seconds = seconds_ += elapsed;
  metrics.tokens_per_s = static_cast<double>(tokens) / elapsed;
  return metrics;
}

void Trainer::save(Checkpoint& checkpoint) const {
  check_weights(steps_done_, parameters());
  checkpoint.model = model_;
  optimizer_.save(checkpoint.training_tensors);
  for (const auto& buffer : model_->named_buffers())
    if (buffer.value().defined()) checkpoint.training_tensors[kBufferPrefix + buffer.key()] = buffer.value();
  if (has_surrogate()) tuning_->save(checkpoint);
  checkpoint.training_state["step"] = steps_done_;
  checkpoint.training_state["tokens"] = tokens_;
  checkpoint.training_state["seconds"] = seconds_;
  checkpoint.training_state["last_loss"] = last_loss_;
}

void Trainer::load(const Checkpoint& checkpoint) {
  copy_weights(*checkpoint.model, *model_, "the training state");
  const c10::NoGradGuard no_grad;
  for (auto& buffer : model_->named_buffers()) {
    const auto found = checkpoint.training_tensors.find(kBufferPrefix + buffer.key());
    if (found != checkpoint.training_tensors.end()) buffer.value().copy_(found->second);
  }
  const auto& state = checkpoint.training_state;
  steps_done_ = state.at("step").get<int64_t>();
  tokens_ = state.at("tokens").get<int64_t>();
  seconds_ = state.at("seconds").get<double>();
  last_loss_ = state.at("last_loss").get<double>();
  optimizer_.load(checkpoint.training_tensors, steps_done_);
  if (has_surrogate()) tuning_->load(checkpoint);
}

void copy_weights(LanguageModel& from, LanguageModel& to, const std::string& source, bool new_mixtures) {
  const c10::NoGradGuard no_grad;
  const auto weights = from.named_parameters();
  size_t left = weights.size();
  for (auto& item : to.named_parameters()) {
    const torch::Tensor* weight = weights.find(item.key());
    if (!weight && new_mixtures && belongs_to_a_mixture(item.key())) continue;
    if (!weight) fail(ErrorKind::checkpoint, "{}: no parameter {}, which [model] of the recipe asks for", source, item.key());
    if (weight->sizes() != item.value().sizes())
      fail(ErrorKind::checkpoint, "{}: parameter {} has shape [{}], [model] of the recipe asks for [{}]", source, item.key(),
           fmt::join(weight->sizes(), ", "), fmt::join(item.value().sizes(), ", "));
    item.value().copy_(*weight);
    --left;
  }
  const auto buffers = from.named_buffers();
  for (auto& item : to.named_buffers()) {  // masks and running means of networks go with their weights; the state of gates begins anew
    const torch::Tensor* buffer = buffers.find(item.key());
    if (item.key().find(".gate.") == std::string::npos && buffer && buffer->defined() && buffer->sizes() == item.value().sizes()) item.value().copy_(*buffer);
  }
  if (left == 0) return;
  for (const auto& item : weights)
    if (!to.named_parameters().find(item.key()))
      fail(ErrorKind::checkpoint, "{}: {} of its {} parameters are not in [model] of the recipe, such as {}", source, left, weights.size(), item.key());
}

}  // namespace switchyard
