// The step `train`, found by its name. Oracle: the same run by train().
#include "expect_error.h"
#include "steps/step.h"
#include "tiny_run.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

BlockSpec train_step(const std::filesystem::path& text) {
  return {"train",
          {{"data", {{"path", text.string()}}},
           {"train", {{"steps", 3}, {"batch_size", 4}, {"seq_len", 32}, {"micro_batch", 2}, {"compute", "float32"}, {"threads", 2}}}}};
}

TEST(TrainStep, GoesOnFromTheCheckpointAsTrainDoes) {
  testing::TempDir dir;
  testing::write_text(dir / "text.txt", testing::tiny_text(200));
  Recipe recipe = testing::tiny_recipe(dir / "text.txt");
  recipe.train.steps = 3;
  testing::Recorder recorder;
  const Checkpoint first = [&] {
    const TrainResult run = train(recipe, {.folder = dir / "first"}, recorder);
    return Checkpoint{run.model, run.tokenizer, {}, {}};
  }();

  const Checkpoint got = step_registry().make(train_step(dir / "text.txt"))->run(first, {.run_dir = dir / "step", .seed = 9});

  Recipe same = recipe;
  same.seed = 9;
  same.train = {.steps = 3, .batch_size = 4, .seq_len = 32, .micro_batch = 2, .compute = "float32", .threads = 2};
  const TrainResult want = train(same, {.folder = dir / "second", .from = first}, recorder);
  const auto expected = want.model->named_parameters(), before = first.model->named_parameters();
  double change = 0;
  for (const auto& item : got.model->named_parameters()) {
    EXPECT_TRUE(torch::equal(item.value(), expected[item.key()])) << item.key();
    change += (item.value() - before[item.key()]).abs().sum().item<double>();
  }
  EXPECT_GT(change, 0);
  EXPECT_TRUE(got.tokenizer);
}

TEST(TrainStep, NeedsAModelAndKnownOptions) {
  testing::TempDir dir;
  testing::expect_error(ErrorKind::config, {"train", "model"}, [&] {
    (void)step_registry().make(train_step("text.txt"))->run({}, {.run_dir = dir / "step"});
  });
  testing::expect_error(ErrorKind::config, {"stepz", "steps"}, [] { step_registry().check({"train", {{"train", {{"stepz", 3}}}}}, "steps[0]"); });
}

}  // namespace
}  // namespace switchyard
