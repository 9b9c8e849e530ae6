// What training reports: one record per step, evaluation and event. The library stays silent; whoever wants to show or
// store the records observes them.
#pragma once

#include "eval/evaluate.h"
#include "switchyard/loss.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard {

// One MoE layer in one step.
struct LayerMetrics {
  int64_t layer = 0;
  double load_cv = 0, load_cv_floor = 0;  // RoutingStats::load_cv; a balanced random choice would give the floor
  double dropped = 0, entropy = 0;
  std::vector<double> load = {};  // share of the (token, choice) pairs per expert
};

struct StepMetrics {
  int64_t step = 0, steps = 0;  // optimiser steps done, and in total
  double loss = 0;              // of this step's tokens, nats per token, without auxiliary losses
  double lr = 0, grad_norm = 0;  // norm before clipping
  int64_t tokens = 0;            // trained on since the run began
  double tokens_per_s = 0;       // of this step
  double seconds = 0;            // spent in steps since the run began (without evaluation and saving), over all sessions
  std::vector<LayerMetrics> layers = {};
  std::vector<LossValue> aux = {};
};

struct EvalMetrics {
  int64_t step = 0;
  EvalResult result;
  double seconds = 0;  // as in StepMetrics
};

struct EventMetrics {
  int64_t step = 0;
  std::string what;  // resume | best | interrupted | finished
  double seconds = 0;
};

// Lines of metrics.jsonl (docs/run-folder.md).
[[nodiscard]] nlohmann::ordered_json to_json(const StepMetrics& metrics);
[[nodiscard]] nlohmann::ordered_json to_json(const EvalMetrics& metrics);
[[nodiscard]] nlohmann::ordered_json to_json(const EventMetrics& metrics);

class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  virtual void on_step(const StepMetrics&) {}  // every step
  virtual void on_eval(const EvalMetrics&) {}
  virtual void on_event(const EventMetrics&) {}
  // Preparation before the first step: "tokenizer", "tokens"; done of total.
  virtual void on_prepare(const std::string& /*what*/, int64_t /*done*/, int64_t /*total*/) {}
};

}  // namespace switchyard
