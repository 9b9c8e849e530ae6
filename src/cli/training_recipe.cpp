#include "cli/training_recipe.h"

#include "cli/find_recipe.h"
#include "cli/scale.h"
#include "cli/share_dir.h"

namespace switchyard::cli {

std::filesystem::path embedded_corpus() { return share_dir() / "data" / "english_classics.txt"; }

void fill_in_corpus(Recipe& recipe) {
  if (recipe.data.path.empty()) recipe.data.path = embedded_corpus().string();
}

Recipe training_recipe(const std::string& word, const std::filesystem::path& init, std::span<const std::string> overrides,
                       const std::string& scale) {
  const auto path = find_recipe(word);
  Recipe recipe = init.empty() ? load_recipe(path, overrides) : load_recipe_for(path, init, overrides);
  scale_recipe(recipe, scale);
  fill_in_corpus(recipe);
  return recipe;
}

}  // namespace switchyard::cli
