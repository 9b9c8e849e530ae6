// Routers that learn from a surrogate of the loss instead of the loss (Flextron, arXiv:2406.10260 section 3), for choices that no
// weight carries a gradient to, such as widths of one network (experts/nested.h). In every optimiser step of the model:
//
//   learn   the surrogate SM predicts the loss of each sequence from its routes; one step on the mean squared error.
//           Model and routers get nothing of it.
//   tune    while that error is below a threshold, one step of the routers alone on
//             mean SM(routes) + lambda |latency - target|        SM and the model stand still
//
// The routes of a sequence: for each layer the share of its tokens that chose each expert, all layers side by side; backward, the
// choices are their soft samples (straight through). Expected latency is linear in the probabilities of a choice, softmax(z):
// sum_l sum_e cost_le mean_t p_tle, with costs that add up to 1 when every layer takes its most expensive expert. Routers see hidden
// states of the pass that has just been made, as constants, and draw fresh noise.
//
// Departs from the paper: SM reads choices, not raw logits. The loss depends on a logit through nothing else, and routes stay in a
// bounded set, so that no router walks to where SM has never been by scaling its logits. Interleaved with training, SM sees the
// routes that the routers have moved to.
#pragma once

#include "steps/adamw.h"
#include "steps/surrogate.h"
#include "switchyard/checkpoint.h"

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace switchyard {

// A layer whose router is tuned.
struct TunedRouter {
  std::string name;  // "layers.3.ffn"
  Gate* gate = nullptr;
  std::vector<double> cost;  // of each expert, in any unit
};

// The routed layers of a model, with the costs that the options state or the FLOPs of the experts.
[[nodiscard]] std::vector<TunedRouter> tuned_routers(LanguageModel& model, const RouterTuningOptions& options);

// What one forward pass leaves for the tuning: per routed layer what the gate saw and what became of it, without gradient.
struct RoutedPass {
  std::vector<GateInput> inputs;
  std::vector<RoutingStats> stats;  // with probabilities, choices, sequence_ids and token_loss
};
[[nodiscard]] RoutedPass routed_pass(const ModelTrace& trace, std::span<const RoutingStats> stats);

class RouterTuning {
 public:
  // Throws Error{config} when there is no router.
  RouterTuning(std::vector<TunedRouter> routers, const RouterTuningOptions& options, uint64_t seed);

  // Returns the mean squared error of SM before it learnt. Throws Error{numeric} when it is not finite.
  double learn(std::span<const RoutedPass> passes);
  // The error, averaged over the last steps, is below the threshold.
  [[nodiscard]] bool ready() const { return learnt_ > 0 && error_ < options_.threshold; }
  [[nodiscard]] double error() const { return error_; }
  void tune(std::span<const RoutedPass> passes);

  // Expected latency as a share of the full one, with gradient into the logits of `stats` (one per router).
  [[nodiscard]] torch::Tensor latency(std::span<const RoutingStats> stats) const;
  // lambda |latency - target|.
  [[nodiscard]] torch::Tensor latency_loss(const torch::Tensor& latency) const;
  // SM's opinion of routes -> [n].
  [[nodiscard]] torch::Tensor predict(const torch::Tensor& routes) const { return surrogate_->forward(routes); }
  // The routes of each sequence [n, sum of experts], and with `losses` its mean loss [n] (of the sequences that have one).
  [[nodiscard]] static torch::Tensor routes(std::span<const RoutingStats> stats, torch::Tensor* losses = nullptr);

  [[nodiscard]] const Surrogate& surrogate() const { return *surrogate_; }
  [[nodiscard]] const RouterTuningOptions& options() const { return options_; }

  // SM, moments and counters under names that begin with "router_tuning".
  void save(Checkpoint& checkpoint) const;
  void load(const Checkpoint& checkpoint);

 private:
  std::vector<TunedRouter> routers_;
  RouterTuningOptions options_;
  std::vector<torch::Tensor> cost_;  // [E] of each router; the largest ones add up to 1
  std::shared_ptr<Surrogate> surrogate_;
  AdamW learn_step_, tune_step_;
  double error_ = 0;
  int64_t learnt_ = 0, tuned_ = 0;
};

}  // namespace switchyard
