// Training on a device (tests/support/devices.h) is training on the CPU, and a run may change between them.
#include "data/tokenize_corpus.h"
#include "eval/eval_rule.h"
#include "support/devices.h"
#include "tiny_run.h"

#include <gtest/gtest.h>

namespace switchyard::device_training_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::devices;
using testing::kNoDevice;

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

class DeviceTraining : public ::testing::Test {
 protected:
  void SetUp() override {
    if (devices().empty()) GTEST_SKIP() << kNoDevice;
  }
};

TEST_F(DeviceTraining, LossesAreThoseOfTheCpu) {
  const testing::TempDir dir;
  Recipe recipe = recipe_in(dir), recomputed = recipe;
  recomputed.train.activation_checkpointing = true;
  const auto cpu = losses(recipe, {.folder = dir / "cpu"});
  EXPECT_LT(cpu.back(), cpu.front() - 0.2);  // it learns: a device that did not would be seen
  for (const torch::Device device : devices()) {
    SCOPED_TRACE(device.str());
    expect_alike(losses(recipe, {.folder = dir / device.str(), .device = device}), cpu);
    expect_alike(losses(recomputed, {.folder = dir / (device.str() + "-recomputed"), .device = device}), cpu);
  }
}

// What a trainer does beside a plain step: two passes that must agree, routers that learn from a surrogate.
TEST_F(DeviceTraining, OtherSchemesLearnAlike) {
  const testing::TempDir dir;
  testing::write_text(dir / "text.txt", testing::tiny_text(300));
  for (const std::string name : {"thor", "flextron"}) {
    const std::vector<std::string> small{"data.path=" + (dir / "text.txt").string(), "model.d_model=16", "model.d_ff=32", "train.steps=6", "train.seq_len=32",
                                         "train.batch_size=4", "train.threads=2", "train.log_every=1"};
    const Recipe recipe = load_recipe(std::filesystem::path(SW_SOURCE_DIR) / "recipes/gates" / (name + ".toml"), small);
    const auto cpu = losses(recipe, {.folder = dir / name});
    for (const torch::Device device : devices()) {
      SCOPED_TRACE(name + " on " + device.str());
      expect_alike(losses(recipe, {.folder = dir / (name + "-" + device.str()), .device = device}), cpu);
    }
  }
}

TEST_F(DeviceTraining, EvaluationByDomainsAndByContrastIsAlike) {
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
  for (const torch::Device device : devices()) EXPECT_NEAR(measured(contrast, device), measured(contrast, torch::kCPU), 1e-4) << device;
  recipe.model.moe->gate = "by_tag";
  recipe.model.moe->losses.clear();
  for (const torch::Device device : devices()) EXPECT_NEAR(measured(domains, device), measured(domains, torch::kCPU), 1e-4) << device;
}

TEST_F(DeviceTraining, ARunGoesOnWhereverItIsResumed) {
  const testing::TempDir dir;
  const Recipe recipe = recipe_in(dir);
  const auto whole = losses(recipe, {.folder = dir / "whole"});
  for (const torch::Device device : devices())
    for (const bool begins_there : {true, false}) {
      const torch::Device cpu(torch::kCPU), first = begins_there ? device : cpu, second = begins_there ? cpu : device;
      const auto folder = dir / (device.str() + (begins_there ? "-first" : "-second"));
      int asked = 0;
      auto found = losses(recipe, {.folder = folder, .device = first, .stop = [&] { return ++asked > 5; }});
      ASSERT_LT(found.size(), whole.size());
      const auto rest = losses(recipe, {.folder = folder, .resume = true, .device = second});
      found.insert(found.end(), rest.begin(), rest.end());
      expect_alike(found, whole);
    }
}

}  // namespace
}  // namespace switchyard::device_training_test
