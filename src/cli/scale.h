// --scale: the model of a recipe in another size.
#pragma once

#include "steps/recipe.h"

#include <string>

namespace CLI {
class App;
}

namespace switchyard::cli {

// "tiny": the model as miniature() makes it, a byte tokenizer, and a training of seconds where the recipe names none. "": as it is.
void scale_recipe(Recipe& recipe, const std::string& scale);

void add_scale_option(CLI::App& verb, std::string& scale);

}  // namespace switchyard::cli
