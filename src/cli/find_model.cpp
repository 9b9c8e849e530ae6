#include "cli/find_model.h"

#include "io/stored_model.h"
#include "steps/run_folder.h"
#include "switchyard/error.h"

namespace switchyard::cli {

std::filesystem::path find_model(const std::string& word) {
  const std::filesystem::path path(word);
  if (io::is_single_file_model(path)) return path;
  const RunFolder run{path};
  for (const auto& place : {path, run.best(), run.last()})
    if (std::error_code ignored; std::filesystem::is_regular_file(place / "config.json", ignored)) return place;
  if (!std::filesystem::exists(path)) fail(ErrorKind::checkpoint, "{}: no such folder", word);
  if (!std::filesystem::is_directory(path)) fail(ErrorKind::checkpoint, "{}: a file; expected a model folder with config.json and model.safetensors", word);
  fail(ErrorKind::checkpoint, "{}: neither a model folder (no config.json) nor a run with checkpoints", word);
}

bool is_run(const std::filesystem::path& path) { return std::filesystem::is_directory(RunFolder{path}.last().parent_path()); }

}  // namespace switchyard::cli
