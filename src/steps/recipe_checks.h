// Ranges and combinations of a recipe, checked as a whole before work begins.
#pragma once

#include "steps/recipe.h"

namespace switchyard {

// `root` is the tree that the recipe was read from: it gives messages their file and line.
void check_recipe_at(const Recipe& recipe, const ConfigNode& root);

}  // namespace switchyard
