#include "steps/trainer.h"

#include "core/ops.h"
#include "data/tokenize_corpus.h"
#include "expect_error.h"
#include "io/tokenizer/tokenizer.h"
#include "tiny_run.h"

#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

namespace switchyard {
namespace {

using testing::expect_error;

// A trainer on tiny text without a run folder.
struct TinyTrainer {
  explicit TinyTrainer(const Recipe& recipe, const testing::TempDir& dir) {
    const auto tokenizer = make_byte_tokenizer();
    const std::vector<data::Document> documents = {{.name = "tiny", .domain = "", .text = testing::tiny_text(300), .scored = {}}};
    tokens = std::make_unique<data::TokenFile>(data::open_token_file(dir / "tokens.bin", documents, *tokenizer, recipe.data.split));
    const auto seed = static_cast<uint64_t>(recipe.seed);
    const TrainOptions& t = recipe.train;
    model = std::make_shared<LanguageModel>(resolved_model(recipe), seed);
    batches = std::make_unique<data::TrainBatches>(
        tokens->train(),
        data::TrainBatchOptions{.seq_len = t.seq_len, .batch_size = t.micro_batch_size(), .micro_batches = t.micro_batches(), .seed = seed});
    trainer = std::make_unique<Trainer>(model, t, seed, [this](int64_t step, int64_t micro) { return batches->batch(step, micro); });
  }
  torch::Tensor parameter(const std::string& part) {
    for (const auto& p : model->named_parameters())
      if (p.key().find(part) != std::string::npos) return p.value();
    return {};
  }
  std::unique_ptr<data::TokenFile> tokens;
  std::shared_ptr<LanguageModel> model;
  std::unique_ptr<data::TrainBatches> batches;
  std::unique_ptr<Trainer> trainer;
};

Recipe plain_recipe() {
  Recipe recipe = testing::tiny_recipe("unused");
  recipe.model.dropout = 0;
  return recipe;
}

TEST(Trainer, LossGoesDownOnTinyText) {
  const testing::TempDir dir;
  Recipe recipe = plain_recipe();
  recipe.train.steps = 60;
  for (const char* compute : {"float32", "bfloat16"}) {
    recipe.train.compute = compute;
    TinyTrainer tiny(recipe, dir);
    const double first = tiny.trainer->step().loss;
    double last = 0;
    while (tiny.trainer->steps_done() < recipe.train.steps) last = tiny.trainer->step().loss;
    EXPECT_NEAR(first, std::log(257.0), 0.3) << compute;  // an untrained model knows nothing
    EXPECT_LT(last, 0.6 * first) << compute;
  }
}

TEST(Trainer, FourMicroBatchesOfOneEqualOneOfFour) {
  const testing::TempDir dir;
  Recipe recipe = plain_recipe();
  recipe.model.moe->losses = {{"router_z", {{"weight", 0.01}}}};  // a mean over tokens; load_balance is no mean of its parts
  recipe.train.micro_batch = 4;
  TinyTrainer whole(recipe, dir);
  recipe.train.micro_batch = 1;
  TinyTrainer parts(recipe, dir);
  for (int i = 0; i < 3; ++i) {
    const StepMetrics a = whole.trainer->step(), b = parts.trainer->step();
    EXPECT_NEAR(a.loss, b.loss, 1e-5 * a.loss) << "step " << a.step;
    EXPECT_NEAR(a.grad_norm, b.grad_norm, 1e-3 * a.grad_norm) << "step " << a.step;
    EXPECT_NEAR(a.aux[0].raw, b.aux[0].raw, 1e-3 * std::abs(a.aux[0].raw));
    EXPECT_EQ(a.tokens, b.tokens);
  }
}

TEST(Trainer, ActivationCheckpointingChangesNothing) {
  const testing::TempDir dir;
  Recipe recipe = testing::tiny_recipe("unused");  // with dropout and jitter: both are drawn again in backward
  TinyTrainer kept(recipe, dir);
  recipe.train.activation_checkpointing = true;
  TinyTrainer recomputed(recipe, dir);
  for (int i = 0; i < 3; ++i) {
    const StepMetrics a = kept.trainer->step(), b = recomputed.trainer->step();
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_NEAR(a.grad_norm, b.grad_norm, 1e-6 * a.grad_norm);
  }
}

TEST(Trainer, MetricsDescribeTheRouting) {
  const testing::TempDir dir;
  TinyTrainer tiny(plain_recipe(), dir);
  const StepMetrics metrics = tiny.trainer->step();
  ASSERT_EQ(metrics.layers.size(), 2u);
  for (const LayerMetrics& layer : metrics.layers) {
    double sum = 0;
    for (const double share : layer.load) sum += share;
    EXPECT_NEAR(sum, 1, 1e-12);
    EXPECT_EQ(layer.load.size(), 4u);
    EXPECT_NEAR(layer.load_cv_floor, std::sqrt(3.0 / (2 * 4 * 32)), 1e-12);
    EXPECT_EQ(layer.dropped, 0);
    EXPECT_GT(layer.entropy, 0);
  }
  ASSERT_EQ(metrics.aux.size(), 2u);
  EXPECT_EQ(metrics.aux[0].name, "load_balance");
  EXPECT_NEAR(metrics.aux[0].weighted, 0.01 * metrics.aux[0].raw, 1e-9);
  EXPECT_EQ(metrics.tokens, 4 * 32);
}

TEST(Trainer, ANanWeightStopsTheStepAndIsNamed) {
  const testing::TempDir dir;
  TinyTrainer tiny(plain_recipe(), dir);
  (void)tiny.trainer->step();
  {
    const c10::NoGradGuard no_grad;
    tiny.parameter("layers.1.ffn.experts").view({-1})[0] = std::nan("");
  }
  const torch::Tensor before = tiny.parameter("embed").clone();
  expect_error(ErrorKind::numeric, {"step 2", "layers.1", "not finite", "last finite"}, [&] { (void)tiny.trainer->step(); });
  EXPECT_TRUE(torch::equal(before, tiny.parameter("embed")));  // the step did not happen
  EXPECT_EQ(tiny.trainer->steps_done(), 1);
  Checkpoint unused;
  expect_error(ErrorKind::numeric, {"layers.1", "after step 1"}, [&] { tiny.trainer->save(unused); });
}

TEST(Trainer, ARouterWithoutScoresStopsTheStepAndNamesTheLayer) {
  const testing::TempDir dir;
  TinyTrainer tiny(plain_recipe(), dir);
  {
    const c10::NoGradGuard no_grad;
    tiny.parameter("gate.score.weight").fill_(std::nan(""));
  }
  expect_error(ErrorKind::numeric, {"layers.0 router", "step 1", "layers.0.ffn.gate.score.weight is not finite"}, [&] { (void)tiny.trainer->step(); });
}

TEST(Trainer, AGradientThatIsNotFiniteIsNamed) {
  const testing::TempDir dir;
  Recipe recipe = plain_recipe();
  recipe.model.moe.reset();
  TinyTrainer tiny(recipe, dir);
  // Any hook of autograd may go wrong: here the one of the last norm.
  tiny.parameter("norm").register_hook([](const torch::Tensor& g) { return g * std::numeric_limits<double>::infinity(); });
  expect_error(ErrorKind::numeric, {"gradient of", "norm", "step 1"}, [&] { (void)tiny.trainer->step(); });
}

}  // namespace
}  // namespace switchyard
