// The recipe of a training as the command line names it.
#pragma once

#include "steps/recipe.h"

#include <filesystem>
#include <span>
#include <string>

namespace switchyard::cli {

// The recipe that `word` names, with the corpus that comes with the program where it names no text. With `init`, a model
// folder, its model and tokenizer are the base and keys that the recipe states win. `scale` as scale_recipe takes it.
[[nodiscard]] Recipe training_recipe(const std::string& word, const std::filesystem::path& init, std::span<const std::string> overrides,
                                     const std::string& scale = "");

// The text that comes with the program.
[[nodiscard]] std::filesystem::path embedded_corpus();

// Puts its path into a recipe that names none.
void fill_in_corpus(Recipe& recipe);

}  // namespace switchyard::cli
