// Fixed routes on the routing bench, whose ids name the cluster (id / 8): knowing the cluster beats a hash of the ids, and that
// beats chance, on every seed. The routing notes measured .004 < .13 < .285.
#include "steps/routing_bench.h"

#include <gtest/gtest.h>

namespace switchyard::fixed_gates_test {  // its own: tests of a folder compile as one unit
namespace {

MoESpec recipe(const BlockSpec& gate) {
  MoESpec out;
  out.gate = gate;
  return out;
}

TEST(FixedGates, TheOracleTableBeatsAHashAndAHashBeatsChanceOnEverySeed) {
  for (uint64_t seed : {0, 1, 2}) {
    const auto oracle = run_routing_bench(recipe("by_tag"), {.seed = seed});
    const auto hash = run_routing_bench(recipe({"hash", {{"table", "random"}, {"vocab_size", 64}}}), {.seed = seed});
    const auto chance = run_routing_bench(recipe({"random", {{"train_unit", "token"}}}), {.seed = seed});
    EXPECT_LT(oracle.task_loss, 0.3 * hash.task_loss) << seed;
    EXPECT_LT(hash.task_loss, 0.8 * chance.task_loss) << seed;
    EXPECT_NEAR(oracle.mutual_information, 2.079, 0.03) << seed;
    EXPECT_LT(chance.mutual_information, 0.1) << seed;
  }
}

}  // namespace
}  // namespace switchyard::fixed_gates_test
