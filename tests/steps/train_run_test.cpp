#include "steps/train.h"

#include "expect_error.h"
#include "report/run_files.h"
#include "tiny_run.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::Recorder;

// Runs until `steps` steps were made by this process, then asks to stop.
TrainResult train_for(const Recipe& recipe, const fs::path& folder, int64_t steps) {
  Recorder recorder;
  TrainRun run{.folder = folder, .resume = true};
  run.stop = [&] { return static_cast<int64_t>(recorder.steps.size()) >= steps; };
  return train(recipe, run, recorder);
}

void expect_equal_weights(LanguageModel& a, LanguageModel& b) {
  const auto want = a.named_parameters(), got = b.named_parameters();
  ASSERT_EQ(want.size(), got.size());
  for (const auto& item : want) EXPECT_TRUE(torch::equal(item.value(), got[item.key()])) << item.key();
}

class TrainRunTest : public ::testing::Test {
 protected:
  void SetUp() override { testing::write_text(dir_ / "text.txt", testing::tiny_text(300)); }
  testing::TempDir dir_;
};

TEST_F(TrainRunTest, InterruptedAnywhereAndResumedEqualsUninterruptedBitForBit) {
  const Recipe recipe = testing::tiny_recipe(dir_ / "text.txt");
  Recorder recorder;
  const TrainResult whole = train(recipe, {.folder = dir_ / "whole"}, recorder);
  ASSERT_EQ(whole.status, TrainStatus::finished);
  ASSERT_EQ(recorder.steps.size(), 12u);
  for (const int64_t stop : {1, 4, 5, 7, 12}) {
    const fs::path folder = dir_ / ("stop" + std::to_string(stop));
    EXPECT_EQ(train_for(recipe, folder, stop).status, TrainStatus::interrupted);
    if (stop < 12) {
      EXPECT_EQ(train_for(recipe, folder, 2).status, TrainStatus::interrupted) << "a second interruption";
    }
    const TrainResult resumed = train_for(recipe, folder, 1000);
    EXPECT_EQ(resumed.status, TrainStatus::finished);
    for (const char* kind : {"train", "eval"})
      EXPECT_EQ(testing::timeless_lines(dir_ / "whole/metrics.jsonl", kind), testing::timeless_lines(folder / "metrics.jsonl", kind))
          << kind << " lines, stopped after " << stop;
    expect_equal_weights(*whole.model, *resumed.model);
    ASSERT_TRUE(whole.evaluation && resumed.evaluation);
    EXPECT_EQ(whole.evaluation->loss, resumed.evaluation->loss);
    EXPECT_EQ(whole.best_loss, resumed.best_loss);
    EXPECT_EQ(whole.best_step, resumed.best_step);
  }
}

TEST_F(TrainRunTest, LeavesAFolderThatTheReportReads) {
  Recorder recorder;
  const TrainResult result = train(testing::tiny_recipe(dir_ / "text.txt"), {.folder = dir_ / "run", .command = "train tiny"}, recorder);
  const report::RunFiles files = report::read_run((dir_ / "run").string());
  EXPECT_EQ(files.name(), "tiny");
  ASSERT_EQ(files.train.size(), 12u);
  EXPECT_EQ(files.train.back().loss, recorder.steps.back().loss);
  EXPECT_EQ(files.evals.size(), 3u);  // steps 5, 10, 12
  ASSERT_TRUE(files.trace && files.info);
  EXPECT_EQ(files.trace->layers.size(), 2u);
  EXPECT_GT(files.trace->tokens.size(), 20u);
  EXPECT_EQ(files.info->params_total, static_cast<double>(count_parameters(result.model->spec()).total));
  EXPECT_EQ(files.info->final_number("step"), 12);
  EXPECT_NEAR(files.info->final_number("bits_per_byte"), result.evaluation->bits_per_byte, 1e-4);
  EXPECT_EQ(files.info->command, "train tiny");
  EXPECT_EQ(files.events.back().what, "finished");
}

TEST_F(TrainRunTest, KeepsTheBestModelApart) {
  Recorder recorder;
  const TrainResult result = train(testing::tiny_recipe(dir_ / "text.txt"), {.folder = dir_ / "run"}, recorder);
  double best = recorder.evals[0].result.loss;
  for (const EvalMetrics& e : recorder.evals) best = std::min(best, e.result.loss);
  EXPECT_EQ(result.best_loss, best);
  EXPECT_NE(load_checkpoint(dir_ / "run/checkpoints/best").model, nullptr);
  EXPECT_NE(load_checkpoint(dir_ / "run/checkpoints/best").tokenizer, nullptr);
}

TEST_F(TrainRunTest, AStoredRecipeTrainsTheSameModel) {
  Recipe recipe = testing::tiny_recipe(dir_ / "text.txt");
  recipe.train.steps = 3;
  Recorder first, second;
  (void)train(recipe, {.folder = dir_ / "a"}, first);
  (void)train(load_recipe(dir_ / "a/recipe.toml"), {.folder = dir_ / "b"}, second);
  EXPECT_EQ(first.steps.back().loss, second.steps.back().loss);
}

TEST_F(TrainRunTest, GoesOnFromTheWeightsOfAnotherModel) {
  Recipe recipe = testing::tiny_recipe(dir_ / "text.txt");
  Recorder first, second;
  const TrainResult result = train(recipe, {.folder = dir_ / "a"}, first);
  (void)train(recipe, {.folder = dir_ / "b", .from = load_checkpoint(dir_ / "a/checkpoints/last")}, second);
  EXPECT_LT(second.steps[0].loss, 0.9 * first.steps[0].loss);
  recipe.model.d_ff = recipe.model.moe->d_expert = 24;
  expect_error(ErrorKind::checkpoint, {"shape", "experts"},
               [&] { (void)train(recipe, {.folder = dir_ / "c", .from = load_checkpoint(dir_ / "a/checkpoints/last")}, second); });
}

TEST_F(TrainRunTest, ARecipeForAnotherModelTakesItsShapeFromThere) {
  Recorder recorder;
  Recipe recipe = testing::tiny_recipe(dir_ / "text.txt");
  recipe.train.steps = 1;
  (void)train(recipe, {.folder = dir_ / "a"}, recorder);
  testing::write_text(dir_ / "go-on.toml", "[model]\ndropout = 0.25\n[train]\nsteps = 2\nseq_len = 32\n");
  const Recipe next = load_recipe_for(dir_ / "go-on.toml", dir_ / "a/checkpoints/last");
  EXPECT_EQ(next.model.d_model, 16);
  EXPECT_EQ(next.model.moe->num_experts, 4);
  EXPECT_EQ(next.model.dropout, 0.25);
  EXPECT_EQ(next.tokenizer.kind, "file");
}

TEST_F(TrainRunTest, RefusesAFolderThatHoldsARun) {
  Recipe recipe = testing::tiny_recipe(dir_ / "text.txt");
  recipe.train.steps = 1;
  Recorder recorder;
  (void)train(recipe, {.folder = dir_ / "run"}, recorder);
  expect_error(ErrorKind::usage, {"already holds a run", "--resume"}, [&] { (void)train(recipe, {.folder = dir_ / "run"}, recorder); });
}

TEST_F(TrainRunTest, RefusesToGoOnWithAnotherRecipeOrAnotherText) {
  Recipe recipe = testing::tiny_recipe(dir_ / "text.txt");
  (void)train_for(recipe, dir_ / "run", 2);
  Recipe other = recipe;
  other.train.optimizer.lr = 0.5;
  expect_error(ErrorKind::config, {"train.optimizer.lr = 0.01", "0.5"}, [&] { (void)train_for(other, dir_ / "run", 1); });
  testing::write_text(dir_ / "text.txt", testing::tiny_text(301));
  expect_error(ErrorKind::config, {"text.txt has changed"}, [&] { (void)train_for(recipe, dir_ / "run", 1); });
}

TEST_F(TrainRunTest, TheRecipeOfARunComesFromItsCheckpoint) {
  const Recipe recipe = testing::tiny_recipe(dir_ / "text.txt");
  (void)train_for(recipe, dir_ / "run", 2);
  const std::vector<std::string> overrides = {"train.steps=14"};
  const Recipe longer = recipe_of_run(dir_ / "run", overrides);
  EXPECT_EQ(longer.train.steps, 14);
  EXPECT_EQ(train_for(longer, dir_ / "run", 1000).step, 14);
  expect_error(ErrorKind::usage, {"no run"}, [&] { (void)recipe_of_run(dir_ / "nothing"); });
}

TEST_F(TrainRunTest, DivergenceNamesTheStepAndKeepsTheLastCheckpoint) {
  Recipe recipe = testing::tiny_recipe(dir_ / "text.txt");
  recipe.train.checkpoint_every = 1;
  recipe.train.grad_clip = 0;
  recipe.train.optimizer.lr = 1e30;
  recipe.train.schedule.warmup_steps = 0;
  (void)train_for(recipe, dir_ / "run", 0);  // saves the untrained model
  Recorder recorder;
  expect_error(ErrorKind::numeric, {"step", "not finite", "the checkpoint of step", "checkpoints/last"},
               [&] { (void)train(recipe, {.folder = dir_ / "run", .resume = true}, recorder); });
  const Checkpoint kept = load_checkpoint(dir_ / "run/checkpoints/last", true);
  for (const auto& p : kept.model->named_parameters()) EXPECT_TRUE(p.value().isfinite().all().item<bool>()) << p.key();
}

TEST_F(TrainRunTest, NeedsText) {
  Recorder recorder;
  Recipe recipe = testing::tiny_recipe("");
  expect_error(ErrorKind::config, {"data.path is empty"}, [&] { (void)train(recipe, {.folder = dir_ / "run"}, recorder); });
  recipe.data.path = (dir_ / "missing.txt").string();
  expect_error(ErrorKind::io, {"missing.txt"}, [&] { (void)train(recipe, {.folder = dir_ / "run"}, recorder); });
}

}  // namespace
}  // namespace switchyard
