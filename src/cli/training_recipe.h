// The recipe of a training as the command line names it.
#pragma once

#include "steps/recipe.h"

#include <filesystem>
#include <span>
#include <string>

namespace switchyard::cli {

// load_recipe(find_recipe(word)), with the corpus that comes with the program where the recipe names no text.
[[nodiscard]] Recipe training_recipe(const std::string& word, std::span<const std::string> overrides);

// The text that comes with the program.
[[nodiscard]] std::filesystem::path embedded_corpus();

// Puts its path into a recipe that names none.
void fill_in_corpus(Recipe& recipe);

}  // namespace switchyard::cli
