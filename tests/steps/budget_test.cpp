#include "steps/budget.h"
#include "steps/tiny_run.h"
#include "switchyard/error.h"

#include <gtest/gtest.h>

namespace switchyard::budget_test {
namespace {

TEST(Budget, ReadsStepsFlopsAndTime) {
  EXPECT_EQ(parse_budget("steps=300").amount, 300);
  EXPECT_EQ(parse_budget("flops=1.5e12").amount, 1.5e12);
  EXPECT_EQ(parse_budget("time=90s").amount, 90);
  EXPECT_EQ(parse_budget("time=2m").amount, 120);
  EXPECT_EQ(parse_budget("time=0.5h").amount, 1800);
  EXPECT_EQ(parse_budget("time=1s").kind, Budget::Kind::seconds);
  for (const char* wrong : {"", "steps", "steps=", "steps=1.5", "steps=-3", "steps=3s", "time=60", "time=60x", "flops=0", "epochs=3", "flops=nan"})
    EXPECT_THROW((void)parse_budget(wrong), Error) << wrong;
}

TEST(Budget, FlopsBuyThreeForwardPassesPerToken) {
  const Recipe recipe = testing::tiny_recipe("nothing is read");
  const double step = 3 * count_parameters(resolved_model(recipe)).flops_per_token * static_cast<double>(recipe.train.batch_size * recipe.train.seq_len);
  EXPECT_EQ(steps_for({Budget::Kind::flops, 7.5 * step}, recipe), 7);
  EXPECT_EQ(steps_for({Budget::Kind::flops, 1}, recipe), 1) << "never none";
  EXPECT_EQ(steps_for({Budget::Kind::steps, 42}, recipe), 42);
  auto twice = recipe;
  twice.train.batch_size *= 2;
  EXPECT_EQ(steps_for({Budget::Kind::flops, 7.5 * step}, twice), 3);
  auto two_passes = recipe;
  two_passes.train.consistency.passes = 2;
  EXPECT_EQ(steps_for({Budget::Kind::flops, 7.5 * step}, two_passes), 3) << "both passes of a step are paid for";
}

TEST(Budget, TimeIsMeasured) {
  const Recipe recipe = testing::tiny_recipe("nothing is read");
  EXPECT_GT(steps_for({Budget::Kind::seconds, 60}, recipe), 60) << "a step of this model takes far less than a second";
}

}  // namespace
}  // namespace switchyard::budget_test
