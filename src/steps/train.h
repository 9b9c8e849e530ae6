// A training run: recipe in, run folder out (steps/run_folder.h says what is in it).
//
// A run that is interrupted and resumed, at any step, ends with the weights and the loss curve of one that was not, bit for
// bit, given the same number of threads and the same instruction set.
#pragma once

#include "io/tokenizer/tokenizer.h"
#include "steps/metrics.h"
#include "steps/recipe.h"
#include "switchyard/checkpoint.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

namespace switchyard {

struct TrainRun {
  std::filesystem::path folder = {};
  bool resume = false;         // go on from folder/checkpoints/last; from the beginning when there is none
  Checkpoint from = {};        // start from these weights and this tokenizer; empty: from scratch
  torch::Device device = torch::kCPU;  // that computes (LanguageModel::to_device)
  std::string command = {};    // for run.json
  std::function<bool()> stop = {};  // asked between steps: true saves and returns
};

enum class TrainStatus { finished, interrupted };

struct TrainResult {
  TrainStatus status = TrainStatus::finished;
  int64_t step = 0;
  std::optional<EvalResult> evaluation;  // of all validation text, when finished and there is any
  double best_loss = 0;                  // lowest validation loss and its step; step 0 = never evaluated
  int64_t best_step = 0;
  std::shared_ptr<LanguageModel> model;
  std::shared_ptr<const Tokenizer> tokenizer;
};

// Throws Error{usage} when the folder already holds a run and `resume` is false; Error{config} when it was trained by another
// recipe; Error{numeric} when training diverges (the last checkpoint stays).
TrainResult train(const Recipe& recipe, const TrainRun& run, TrainObserver& observer);

// The recipe of the run in `folder`, as its last checkpoint keeps it, with overrides.
[[nodiscard]] Recipe recipe_of_run(const std::filesystem::path& folder, std::span<const std::string> overrides = {});

}  // namespace switchyard
