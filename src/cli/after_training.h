// What a finished training leaves besides its checkpoints: a sample of text and the report.
#pragma once

#include "steps/recipe.h"
#include "steps/train.h"

#include <filesystem>

namespace switchyard::cli {

struct TrainingPages {
  std::filesystem::path sample, report;  // empty when it was not written
};

// Generates the recipe's sample into RUN/sample.txt (unless sample.tokens is 0), then writes RUN/report.html.
[[nodiscard]] TrainingPages write_training_pages(const std::filesystem::path& run, const Recipe& recipe, const TrainResult& result);

}  // namespace switchyard::cli
