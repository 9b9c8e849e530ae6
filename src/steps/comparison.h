// Recipes under one budget, over several seeds: OUT/<recipe>-<seed> is the run folder of each. Runs that are finished stay as
// they are, unfinished ones go on, so that an interrupted comparison is resumed by asking for it again.
//
//   OUT/plan.json              the budget and the steps that each recipe got for it
//   RUN/first_experts.json     first expert of validation tokens half-way
//   RUN/routing_change.json    share of those tokens whose first expert is another one at the end, per layer
#pragma once

#include "steps/budget.h"
#include "steps/train.h"

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace switchyard {

struct ComparisonOptions {
  std::filesystem::path out;
  std::string budget;  // as parse_budget reads it
  int64_t seeds = 3;   // 1 .. seeds, instead of the recipe's own
  std::filesystem::path init = {};  // a model that every run starts from; empty: from scratch
  std::string command = {};         // for run.json
  std::function<bool()> stop = {};  // asked between steps
};

class ComparisonObserver {
 public:
  virtual ~ComparisonObserver() = default;
  // Who watches this run; called when it begins or goes on.
  [[nodiscard]] virtual TrainObserver& begins(const Recipe& recipe, const std::filesystem::path& folder) = 0;
  // It ended: "" when it is whole, else why it is not (training diverged). Other runs go on.
  virtual void ends(const std::filesystem::path& folder, const std::string& failure) = 0;
};

struct ComparisonResult {
  TrainStatus status = TrainStatus::finished;
  std::vector<std::filesystem::path> runs;  // those that are whole, recipe by recipe
};

// Throws Error{usage} for recipes of one name and for a folder that was filled under another budget.
ComparisonResult run_comparison(std::vector<Recipe> recipes, const ComparisonOptions& options, ComparisonObserver& observer);

}  // namespace switchyard
