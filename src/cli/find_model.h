// Model folders as people name them.
#pragma once

#include <filesystem>
#include <string>

namespace switchyard::cli {

// `word` itself when it holds a config.json; else, for the folder of a run, its best checkpoint, or its last one when there
// is no best. Throws Error{checkpoint} that says what was looked for.
[[nodiscard]] std::filesystem::path find_model(const std::string& word);

// The folder of a run.
[[nodiscard]] bool is_run(const std::filesystem::path& path);

}  // namespace switchyard::cli
