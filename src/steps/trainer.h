// Optimiser steps: batches in, updated weights and metrics out. Everything random is a function of (seed, step), so that a
// trainer that is saved and loaded goes on as if nothing had happened.
#pragma once

#include "data/batches.h"
#include "steps/adamw.h"
#include "steps/metrics.h"
#include "steps/router_tuning.h"
#include "switchyard/checkpoint.h"

#include <functional>

namespace switchyard {

class Trainer {
 public:
  // The rows of micro-batch `micro` of step `step`.
  using BatchSource = std::function<data::Batch(int64_t step, int64_t micro)>;

  Trainer(std::shared_ptr<LanguageModel> model, const TrainOptions& options, uint64_t seed, BatchSource batches);

  // One optimiser step over options.micro_batches() micro-batches. The loss is the mean over the scored tokens of all of
  // them, auxiliary losses are averaged over them. Throws Error{numeric} before the weights change when a loss, a gradient
  // or a router goes out of the numbers.
  StepMetrics step();

  [[nodiscard]] int64_t steps_done() const { return steps_done_; }
  [[nodiscard]] int64_t tokens() const { return tokens_; }
  [[nodiscard]] double seconds() const { return seconds_; }
  [[nodiscard]] const std::vector<TrainedParameter>& parameters() const { return optimizer_.parameters(); }

  // Moments, the model's buffers and counters; the weights travel in Checkpoint::model. Throws Error{numeric} rather than
  // save weights that are not finite.
  void save(Checkpoint& checkpoint) const;
  void load(const Checkpoint& checkpoint);

 private:
  struct Pass;
  Pass forward_backward(const data::Batch& batch, int64_t micro, int64_t scored_tokens);
  void update_gates(std::span<const RoutingStats> stats);
  [[nodiscard]] bool has_surrogate() const;
  void tune_routers(std::span<const RoutedPass> passes, StepMetrics& metrics);

  std::shared_ptr<LanguageModel> model_;
  TrainOptions options_;
  uint64_t seed_;
  BatchSource batches_;
  AdamW optimizer_;
  std::unique_ptr<RouterTuning> tuning_;  // null unless the options ask for it
  ComputeType compute_;
  int64_t steps_done_ = 0, tokens_ = 0;
  double seconds_ = 0, last_loss_ = 0;
};

// Copies the weights of `from` into `to` by name. Throws Error{checkpoint} naming parameter and shapes when they differ;
// `source` names where the weights come from. `new_mixtures`: parameters of mixtures that `from` lacks keep their initial values,
// with which a model computes what it computes without them.
void copy_weights(LanguageModel& from, LanguageModel& to, const std::string& source, bool new_mixtures = false);

}  // namespace switchyard
