// What every recipe of a comparison may spend: optimiser steps, training FLOPs, or seconds on this machine.
#pragma once

#include "steps/recipe.h"

#include <string>

namespace switchyard {

struct Budget {
  enum class Kind { steps, flops, seconds } kind = Kind::steps;
  double amount = 0;
};

// "steps=300", "flops=1e15", "time=60s" (s, m or h). Throws Error{usage}.
[[nodiscard]] Budget parse_budget(const std::string& text);

// The steps that this recipe gets for it, at least 1. FLOPs: backward counts as two forward passes. Seconds: a few steps are
// measured, so that the answer is that of this machine and this moment; throws Error{unsupported} when they do not fit into memory.
[[nodiscard]] int64_t steps_for(const Budget& budget, const Recipe& recipe);

}  // namespace switchyard
