// May a recipe go on with what another one began?
#pragma once

#include "steps/recipe.h"

namespace switchyard {

// Throws Error{config} naming the first key that differs and may not. Free to change: the length of the run, what is
// logged, evaluated and saved when, threads, the sample, the name, and the path of the (same) text.
void check_resumable(const Recipe& saved, const Recipe& wanted);

}  // namespace switchyard
