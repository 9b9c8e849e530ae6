#include "steps/router_tuning.h"

#include "core/sequences.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

constexpr const char* kPrefix = "router_tuning.";
constexpr double kForget = 0.1;  // share of the newest error in the running mean

int64_t num_inputs(const std::vector<TunedRouter>& routers) {
  if (routers.empty()) fail(ErrorKind::config, "train.router_tuning: the model has no layer with experts");
  size_t out = 0;
  for (const TunedRouter& router : routers) out += router.cost.size();
  return static_cast<int64_t>(out);
}

std::vector<TrainedParameter> parameters_of(const Surrogate& surrogate) {
  std::vector<TrainedParameter> out;
  for (const auto& item : surrogate.named_parameters()) out.push_back({std::string(kPrefix) + "surrogate." + item.key(), item.value()});
  return out;
}

std::vector<TrainedParameter> parameters_of(const std::vector<TunedRouter>& routers) {
  std::vector<TrainedParameter> out;
  for (const TunedRouter& router : routers)
    for (const auto& item : router.gate->named_parameters()) out.push_back({kPrefix + router.name + "." + item.key(), item.value()});
  if (out.empty()) fail(ErrorKind::config, "train.router_tuning: the gates of the model have no parameters");
  return out;
}

OptimizerOptions plain_adam(double lr) {
  OptimizerOptions out;
  out.lr = lr;
  out.weight_decay = 0;
  return out;
}

// One update of `optimizer` with the gradient of `objective`; nothing else that the objective depends on gets any.
void descend(AdamW& optimizer, const torch::Tensor& objective, double lr) {
  std::vector<torch::Tensor> leaves;
  for (const TrainedParameter& p : optimizer.parameters()) leaves.push_back(p.tensor);
  const auto gradients = torch::autograd::grad({objective}, leaves, {}, /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);
  for (size_t i = 0; i < leaves.size(); ++i) leaves[i].mutable_grad() = gradients[i];
  optimizer.step(lr);
  clear_gradients(optimizer.parameters());
}

}  // namespace

std::vector<TunedRouter> tuned_routers(LanguageModel& model, const RouterTuningOptions& options) {
  std::vector<TunedRouter> out;
  for (const auto& [layer, moe] : model.moe_layers()) {
    TunedRouter router{fmt::format("layers.{}.ffn", layer), &moe->gate(), options.latency};
    for (int64_t e = 0; e < moe->options().num_experts && options.latency.empty(); ++e) router.cost.push_back(moe->experts().flops_of(e));
    out.push_back(std::move(router));
  }
  return out;
}

RoutedPass routed_pass(const ModelTrace& trace, std::span<const RoutingStats> stats) {
  RoutedPass out;
  for (const RoutingStats& layer : stats) {
    GateInput input = trace.moe.at(layer.layer).input;
    input.hidden = input.hidden.detach();
    out.inputs.push_back(std::move(input));
    out.stats.push_back(layer);
    for (torch::Tensor* tensor : differentiable(out.stats.back())) *tensor = tensor->detach();
  }
  return out;
}

RouterTuning::RouterTuning(std::vector<TunedRouter> routers, const RouterTuningOptions& options, uint64_t seed)
    : routers_(std::move(routers)),
      options_(options),
      surrogate_(std::make_shared<Surrogate>(num_inputs(routers_), options.hidden, seed)),
      learn_step_(parameters_of(*surrogate_), plain_adam(options.surrogate_lr)),
      tune_step_(parameters_of(routers_), plain_adam(options.lr)) {
  double full = 0;
  for (const TunedRouter& router : routers_) full += *std::max_element(router.cost.begin(), router.cost.end());
  for (const TunedRouter& router : routers_) cost_.push_back(torch::tensor(router.cost, torch::kFloat64).div(full).to(torch::kFloat32));
}

namespace {

// 1 at the first choice, with the gradient of the probabilities [n, E].
torch::Tensor hard_choices(const RoutingStats& layer) {
  const auto& p = layer.scores.probs;
  const auto first = layer.expert_ids.select(1, 0).unsqueeze(1);
  const auto hard = torch::zeros_like(p).scatter_(1, first.clamp_min(0), (first >= 0).to(p.scalar_type()));
  return hard + (p - p.detach());
}

}  // namespace

torch::Tensor RouterTuning::routes(std::span<const RoutingStats> stats, torch::Tensor* losses) {
  std::vector<torch::Tensor> out;
  torch::Tensor number, scored;
  for (const RoutingStats& layer : stats) {
    if (!layer.scores.probs.defined() || !layer.expert_ids.defined() || !layer.sequence_ids.defined())
      fail(ErrorKind::config, "train.router_tuning: the gate of layer {} has no probabilities and choices of the tokens of a sequence", layer.layer);
    if (!number.defined()) number = std::get<1>(at::_unique(layer.sequence_ids, /*sorted=*/true, /*return_inverse=*/true));
    out.push_back(means_of(hard_choices(layer), number, number.numel() > 0 ? number.max().item<int64_t>() + 1 : 0));
  }
  auto all = at::cat(out, 1);
  if (!losses) return all;
  const auto& loss = stats[0].token_loss;
  const auto counts = loss.isfinite();
  const auto of_token = at::stack({at::where(counts, loss, torch::zeros({})), counts.to(torch::kFloat32)}, 1);  // [T, 2]
  const auto sums = torch::zeros({all.size(0), 2}).index_add(0, number, of_token);
  scored = sums.select(1, 1) > 0;
  *losses = (sums.select(1, 0) / sums.select(1, 1)).index({scored});
  return all.index({scored});
}

double RouterTuning::learn(std::span<const RoutedPass> passes) {
  std::vector<torch::Tensor> routes_seen, losses_seen;
  for (const RoutedPass& pass : passes) routes_seen.push_back(routes(pass.stats, &losses_seen.emplace_back()));
  const auto losses = at::cat(losses_seen).detach();
  if (losses.numel() == 0) return error_;
  if (learnt_ == 0) surrogate_->follow(losses.mean().item<double>());
  const auto error = (surrogate_->forward(at::cat(routes_seen).detach()) - losses).square().mean();
  const double value = error.item<double>();
  if (!std::isfinite(value))
    fail(ErrorKind::numeric, "router tuning: the error of the surrogate is {} after {} steps; consider a lower train.router_tuning.surrogate_lr", value, learnt_);
  descend(learn_step_, error, options_.surrogate_lr);
  surrogate_->follow(losses.mean().item<double>());
  error_ = learnt_ == 0 ? value : error_ + kForget * (value - error_);
  ++learnt_;
  return value;
}

void RouterTuning::tune(std::span<const RoutedPass> passes) {
  torch::Tensor objective;
  for (const RoutedPass& pass : passes) {
    std::vector<RoutingStats> stats;
    for (size_t i = 0; i < routers_.size(); ++i) {
      GateInput input = pass.inputs[i];
      input.random = input.random.at("tune");
      stats.push_back(routing_stats(routers_[i].gate->route(input), {}, input, pass.stats[i].layer, static_cast<int64_t>(routers_[i].cost.size())));
    }
    const auto one = (predict(routes(stats)).mean() + latency_loss(latency(stats))) / static_cast<double>(passes.size());
    objective = objective.defined() ? objective + one : one;
  }
  descend(tune_step_, objective, options_.lr);
  ++tuned_;
}

torch::Tensor RouterTuning::latency(std::span<const RoutingStats> stats) const {
  if (stats.size() != routers_.size()) fail(ErrorKind::internal, "router tuning: {} layers of statistics for {} routers", stats.size(), routers_.size());
  torch::Tensor out;
  for (size_t i = 0; i < stats.size(); ++i) {
    const auto& logits = stats[i].scores.logits;
    if (!logits.defined() || logits.size(1) != cost_[i].size(0))
      fail(ErrorKind::config, "train.router_tuning: the gate of layer {} has {} logits per token, expected one for each of {} experts", stats[i].layer,
           logits.defined() ? logits.size(1) : 0, cost_[i].size(0));
    const auto one = (at::softmax(logits, -1).mean(0) * cost_[i]).sum();
    out = out.defined() ? out + one : one;
  }
  return out;
}

torch::Tensor RouterTuning::latency_loss(const torch::Tensor& latency) const { return options_.lambda * (latency - options_.target).abs(); }

void RouterTuning::save(Checkpoint& checkpoint) const {
  auto& tensors = checkpoint.training_tensors;
  for (const auto& item : surrogate_->named_parameters()) tensors[std::string(kPrefix) + "surrogate." + item.key()] = item.value();
  for (const auto& item : surrogate_->named_buffers()) tensors[std::string(kPrefix) + "surrogate." + item.key()] = item.value();
  learn_step_.save(tensors);
  tune_step_.save(tensors);
  checkpoint.training_state["router_tuning"] = {{"error", error_}, {"learnt", learnt_}, {"tuned", tuned_}};
}

void RouterTuning::load(const Checkpoint& checkpoint) {
  const c10::NoGradGuard no_grad;
  const auto& tensors = checkpoint.training_tensors;
  const auto read = [&](const std::string& key, torch::Tensor& tensor) {
    const auto found = tensors.find(std::string(kPrefix) + "surrogate." + key);
    if (found == tensors.end() || found->second.sizes() != tensor.sizes())
      fail(ErrorKind::checkpoint, "the training state has no tensor {}surrogate.{} of shape [{}]", kPrefix, key, fmt::join(tensor.sizes(), ", "));
    tensor.copy_(found->second);
  };
  for (auto& item : surrogate_->named_parameters()) read(item.key(), item.value());
  for (auto& item : surrogate_->named_buffers()) read(item.key(), item.value());
  const auto& state = checkpoint.training_state.at("router_tuning");
  error_ = state.at("error").get<double>();
  learnt_ = state.at("learnt").get<int64_t>();
  tuned_ = state.at("tuned").get<int64_t>();
  learn_step_.load(tensors, learnt_);
  tune_step_.load(tensors, tuned_);
}

}  // namespace switchyard
