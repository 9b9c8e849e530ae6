#include "cli/find_recipe.h"

#include "base/nearest_name.h"
#include "cli/share_dir.h"
#include "switchyard/error.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace switchyard::cli {
namespace fs = std::filesystem;

std::vector<RecipeFile> shipped_recipes() {
  std::vector<RecipeFile> found;
  const fs::path root = share_dir() / "recipes";
  if (!fs::is_directory(root)) return found;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (!entry.is_regular_file() || entry.path().extension() != ".toml") continue;
    auto name = entry.path().lexically_relative(root).replace_extension().generic_string();
    found.push_back({std::move(name), entry.path()});
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return found;
}

fs::path find_recipe(const std::string& word) {
  std::error_code ignored;
  if (fs::is_regular_file(word, ignored)) return word;
  std::vector<fs::path> by_last_part;
  std::vector<std::string> same_last_part, names;
  for (const auto& recipe : shipped_recipes()) {
    if (recipe.name == word) return recipe.path;
    const std::string last = fs::path(recipe.name).filename().string();
    names.push_back(recipe.name);
    names.push_back(last);
    if (last != word) continue;
    by_last_part.push_back(recipe.path);
    same_last_part.push_back(recipe.name);
  }
  if (by_last_part.size() == 1) return by_last_part.front();
  if (by_last_part.size() > 1) fail(ErrorKind::config, "'{}' may be any of the recipes {}; say which", word, fmt::join(same_last_part, ", "));
  const std::string near = nearest_name(word, names);
  fail(ErrorKind::config, "'{}' is neither a file nor the name of a recipe{} (`switchyard list recipes`)", word,
       near.empty() ? "" : "; did you mean '" + near + "'?");
}

bool is_model_dir(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

}  // namespace switchyard::cli
