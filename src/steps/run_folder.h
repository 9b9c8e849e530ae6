// Where the files of a training run lie, and run.json, its description.
//
//   RUN/recipe.toml         the recipe in full form
//   RUN/run.json            what is trained on what, and the final figures
//   RUN/metrics.jsonl       a line per logged step, evaluation and event
//   RUN/tokens.bin          the text as tokens (a cache)
//   RUN/checkpoints/last    goes on with --resume
//   RUN/checkpoints/best    lowest validation loss so far, weights only
//   RUN/trace.json          routing of validation text, for the report
#pragma once

#include "steps/recipe.h"

#include <nlohmann/json.hpp>

#include <filesystem>

namespace switchyard {

struct RunFolder {
  std::filesystem::path path;

  [[nodiscard]] std::filesystem::path recipe() const { return path / "recipe.toml"; }
  [[nodiscard]] std::filesystem::path info() const { return path / "run.json"; }
  [[nodiscard]] std::filesystem::path metrics() const { return path / "metrics.jsonl"; }
  [[nodiscard]] std::filesystem::path tokens() const { return path / "tokens.bin"; }
  [[nodiscard]] std::filesystem::path trace() const { return path / "trace.json"; }
  [[nodiscard]] std::filesystem::path last() const { return path / "checkpoints" / "last"; }
  [[nodiscard]] std::filesystem::path best() const { return path / "checkpoints" / "best"; }

  // Whether a run has saved here.
  [[nodiscard]] bool has_checkpoint() const;
};

// run.json of a run that begins: name, recipe, date, command, seed, threads, model and machine.
[[nodiscard]] nlohmann::ordered_json describe_run(const Recipe& recipe, const ModelSpec& model, const std::string& command);

// "Intel(R) Xeon(R) ..., 2 threads, 23 GiB".
[[nodiscard]] std::string machine_name();

}  // namespace switchyard
