// Gates of recipes on the routing bench (steps/routing_bench.h), as a table over the seeds.
#pragma once

#include "report/measures.h"
#include "steps/recipe.h"

#include <functional>
#include <string>
#include <vector>

namespace switchyard {

struct BenchComparisonOptions {
  int64_t seeds = 3;  // 0 .. seeds - 1
  int64_t steps = 300;
};

// Sizes are those of the recipe's [bench], which `say` is told. A recipe whose gate does not fit is left out, and `say` is told
// why. Throws Error{config} when that is every one.
[[nodiscard]] report::MeasureTable bench_recipes(const std::vector<Recipe>& recipes, const BenchComparisonOptions& options,
                                                 const std::function<void(const std::string&)>& say);

}  // namespace switchyard
