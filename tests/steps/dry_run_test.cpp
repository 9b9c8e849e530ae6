#include "steps/dry_run.h"

#include "tiny_run.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(DryRun, CountsBytesExactlyAndMeasuresTime) {
  const Recipe recipe = testing::tiny_recipe("needs no text");
  const DryRun result = dry_run(recipe);
  const int64_t parameters = count_parameters(resolved_model(recipe)).total;
  EXPECT_EQ(result.weights, 4 * parameters);
  EXPECT_EQ(result.gradients, 4 * parameters);
  EXPECT_EQ(result.moments, 8 * parameters);
  EXPECT_EQ(result.logits, 2 * 4 * 2 * 32 * 257);  // two of [micro_batch * seq_len, vocabulary]
  EXPECT_EQ(result.tokens, 12 * 4 * 32);
  EXPECT_TRUE(result.measured);
  EXPECT_GT(result.step_seconds, 0);
  EXPECT_NEAR(result.train_seconds, 12 * result.step_seconds, 1e-9);
  EXPECT_GT(result.available, 0);
}

TEST(DryRun, AModelBeyondMemoryIsCountedButNotBuilt) {
  Recipe recipe = testing::tiny_recipe("needs no text");
  recipe.model.d_model = 1 << 14;
  recipe.model.d_ff = recipe.model.moe->d_expert = 1 << 16;
  recipe.model.num_layers = 100;
  const DryRun result = dry_run(recipe);
  EXPECT_FALSE(result.measured);
  EXPECT_EQ(result.step_seconds, 0);
  EXPECT_GT(result.memory(), result.available);
}

}  // namespace
}  // namespace switchyard
