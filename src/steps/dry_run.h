// What a recipe will need, found out in seconds: memory, time and disk.
#pragma once

#include "steps/recipe.h"

#include <nlohmann/json.hpp>

namespace switchyard {

struct DryRun {
  ParameterCount parameters;
  // Bytes. Weights, gradients and moments are float32: 16 bytes per parameter.
  int64_t weights = 0, gradients = 0, moments = 0;
  int64_t logits = 0;       // and their gradient, of one micro-batch
  int64_t activations = 0;  // largest rise of the process' memory in a step beyond all of the above
  int64_t available = 0;    // memory that the system can give now
  int64_t disk = 0;         // checkpoints last and best, one more while one is replaced
  double step_seconds = 0;  // median of the measured steps after the first
  double train_seconds = 0;  // all steps; evaluations and checkpoints come on top
  int64_t tokens = 0;       // of the whole run
  bool measured = false;    // false: it would not fit into memory; step time and activations are unknown (0)

  [[nodiscard]] int64_t memory() const { return weights + gradients + moments + logits + activations; }
};

// Builds the model and makes three steps on random tokens. Writes nothing and reads no text.
[[nodiscard]] DryRun dry_run(const Recipe& recipe);

[[nodiscard]] nlohmann::ordered_json to_json(const DryRun& result);

}  // namespace switchyard
