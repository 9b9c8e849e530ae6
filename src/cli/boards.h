// Measured comparisons as part of a page.
#pragma once

#include <filesystem>
#include <string>

namespace switchyard::cli {

// Every *.json of the folder in the order of their names, each one compare.json: a section with title, what was done, the
// machine, a table with the best first, and what its columns say. An *.md file of the same name follows its table.
// Throws Error{io} for a folder that is not there, Error{checkpoint} for a file that is no comparison.
[[nodiscard]] std::string boards_markdown(const std::filesystem::path& folder);

}  // namespace switchyard::cli
