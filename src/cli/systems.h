// systems.tsv: one row per published system that works here.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace switchyard::cli {

struct System {
  std::string id, name, kind;  // as in the project's catalogue
  std::string ref;             // arXiv id or DOI
  std::vector<std::string> files;
  std::string recipe;
  std::vector<std::string> tests;  // GoogleTest filters
};

// Tab separated with the header `id name kind ref files recipe tests`; files and tests are separated by spaces. Throws
// Error{config} with file and line for a row that has other columns or an id that is empty or used twice.
[[nodiscard]] std::vector<System> read_systems(const std::filesystem::path& file);

}  // namespace switchyard::cli
