// Training on a device (tests/support/fenced_device.h) is training on the CPU, and a run may change between them.
#include "data/tokenize_corpus.h"
#include "eval/eval_rule.h"
#include "support/fenced_device.h"
#include "tiny_run.h"

#include <gtest/gtest.h>
#include <torch/cuda.h>

namespace switchyard::device_training_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::kFencedDevice;

Recipe recipe_in(const testing::TempDir& dir) {
  testing::write_text(dir / "text.txt", testing::tiny_text(300));
  Recipe recipe = testing::tiny_recipe(dir / "text.txt");
  recipe.train.optimizer.lr = 3e-3;
  recipe.train.grad_clip = 0.5;  // low enough to clip
  return recipe;
}

std::vector<double> losses(const Recipe& recipe, const TrainRun& run) {
  testing::Recorder seen;
  (void)train(recipe, run, seen);
  std::vector<double> out;
  for (const StepMetrics& step : seen.steps) out.push_back(step.loss);
  return out;
}

void expect_alike(const std::vector<double>& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-3) << "step " << i + 1;
}

TEST(DeviceTraining, LossesAreThoseOfTheCpu) {
  const testing::TempDir dir;
  Recipe recipe = recipe_in(dir);
  const auto cpu = losses(recipe, {.folder = dir / "cpu"});
  EXPECT_LT(cpu.back(), cpu.front() - 0.2);  // it learns: a device that did not would be seen
  expect_alike(losses(recipe, {.folder = dir / "device", .device = kFencedDevice}), cpu);
  recipe.train.activation_checkpointing = true;
  expect_alike(losses(recipe, {.folder = dir / "recomputed", .device = kFencedDevice}), cpu);
  if (torch::cuda::is_available()) expect_alike(losses(recipe, {.folder = dir / "cuda", .device = torch::Device(torch::kCUDA, 0)}), cpu);
}

// What a trainer does beside a plain step: two passes that must agree, routers that learn from a surrogate.
TEST(DeviceTraining, OtherSchemesLearnAlike) {
  const testing::TempDir dir;
  testing::write_text(dir / "text.txt", testing::tiny_text(300));
  for (const char* name : {"thor", "flextron"}) {
    SCOPED_TRACE(name);
    const std::vector<std::string> small{"data.path=" + (dir / "text.txt").string(), "model.d_model=16", "model.d_ff=32", "train.steps=6", "train.seq_len=32",
                                         "train.batch_size=4", "train.threads=2", "train.log_every=1"};
    const Recipe recipe = load_recipe(std::filesystem::path(SW_SOURCE_DIR) / "recipes/gates" / (std::string(name) + ".toml"), small);
    const auto cpu = losses(recipe, {.folder = dir / name});
    expect_alike(losses(recipe, {.folder = dir / (std::string(name) + "-device"), .device = kFencedDevice}), cpu);
  }
}

TEST(DeviceTraining, EvaluationByDomainsAndByContrastIsAlike) {
  const testing::TempDir dir;
  const auto tokenizer = make_byte_tokenizer();
  const std::vector<data::Document> documents = {{.name = "tiny", .domain = "", .text = testing::tiny_text(60), .scored = {}}};
  const auto tokens = data::open_token_file(dir / "tokens.bin", documents, *tokenizer, {});
  Recipe recipe = testing::tiny_recipe("unused");
  const auto measured = [&](const EvalRule& rule, torch::Device device) {
    LanguageModel model(resolved_model(recipe), 3);
    model.to_device(device);
    return evaluate_rule(model, tokens.train(), {.seq_len = 16, .max_tokens = 128}, rule, {})->eval.loss;
  };
  EvalRule contrast, domains;
  contrast.contrast.beta = 0.5;
  domains.domains = 2;
  EXPECT_NEAR(measured(contrast, kFencedDevice), measured(contrast, torch::kCPU), 1e-4);
  recipe.model.moe->gate = "by_tag";
  recipe.model.moe->losses.clear();
  EXPECT_NEAR(measured(domains, kFencedDevice), measured(domains, torch::kCPU), 1e-4);
}

TEST(DeviceTraining, ARunGoesOnWhereverItIsResumed) {
  const testing::TempDir dir;
  const Recipe recipe = recipe_in(dir);
  const auto whole = losses(recipe, {.folder = dir / "whole"});
  for (const bool begins_there : {true, false}) {
    const auto folder = dir / (begins_there ? "there" : "here");
    int asked = 0;
    auto found = losses(recipe, {.folder = folder, .device = begins_there ? kFencedDevice : torch::Device(torch::kCPU), .stop = [&] { return ++asked > 5; }});
    ASSERT_LT(found.size(), whole.size());
    const auto rest = losses(recipe, {.folder = folder, .resume = true, .device = begins_there ? torch::Device(torch::kCPU) : kFencedDevice});
    found.insert(found.end(), rest.begin(), rest.end());
    expect_alike(found, whole);
  }
}

}  // namespace
}  // namespace switchyard::device_training_test
