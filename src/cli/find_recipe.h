// Recipes by file name or by name.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::cli {

struct RecipeFile {
  std::string name;  // "models/mixtral-8x7b": the path below recipes/ without .toml
  std::filesystem::path path;
};

// All recipes that come with the program, by name.
[[nodiscard]] std::vector<RecipeFile> shipped_recipes();

// `word`: an existing file; else a shipped recipe by its name, or by the last part of its name when that is unique
// ("mixtral-8x7b"). Throws Error{config} with the nearest name.
[[nodiscard]] std::filesystem::path find_recipe(const std::string& word);

// A folder: a model, where a verb takes a recipe or a model.
[[nodiscard]] bool is_model_dir(const std::filesystem::path& path);

}  // namespace switchyard::cli
