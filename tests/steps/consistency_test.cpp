// Two passes that must agree: the disagreement by its worked example, its gradient, and what training makes of it.
#include "steps/consistency.h"

#include "data/tokenize_corpus.h"
#include "eval/batch_tensors.h"
#include "expect_error.h"
#include "io/tokenizer/tokenizer.h"
#include "models/eval_mode.h"
#include "steps/trainer.h"
#include "support/moe_oracle.h"
#include "tiny_run.h"

#include <c10/core/GradMode.h>

namespace switchyard::consistency_test {  // its own: tests of a folder compile as one unit
namespace {

torch::Tensor row(std::vector<double> p) { return torch::tensor(p, torch::kFloat64).log().unsqueeze(0); }
torch::Tensor labels(std::vector<int64_t> ids) { return torch::tensor(ids, torch::kInt64); }

TEST(Consistency, ReproducesTheWorkedExample) {
  const auto p = row({.7, .2, .1}), q = row({.5, .3, .2});
  EXPECT_NEAR(disagreement(p, q, labels({0})).item<double>(), .088578, 1e-6);
  // The mean of both directions, each by its definition.
  const auto kl = [](const torch::Tensor& a, const torch::Tensor& b) { return (a.exp() * (a - b)).sum().item<double>(); };
  EXPECT_NEAR(kl(p, q), .085123, 1e-6);
  EXPECT_NEAR(kl(q, p), .092033, 1e-6);
}

TEST(Consistency, IsSymmetricZeroForEqualPredictionsAndCountsScoredTokensOnly) {
  auto a = torch::empty({5, 7}), b = torch::empty({5, 7});
  RandomStream(1).fill_normal(a.data_ptr<float>(), 35);
  RandomStream(2).fill_normal(b.data_ptr<float>(), 35);
  const auto all = labels({0, 1, 2, 3, 4}), some = labels({0, data::kIgnoredLabel, 2, data::kIgnoredLabel, 4});
  EXPECT_NEAR(disagreement(a, b, all).item<double>(), disagreement(b, a, all).item<double>(), 1e-6);
  EXPECT_NEAR(disagreement(a, a + 3, all).item<double>(), 0, 1e-6);  // a shift of the logits is the same prediction
  EXPECT_GT(disagreement(a, b, all).item<double>(), 0.1);
  double sum = 0;
  for (const int64_t t : {0, 2, 4}) sum += disagreement(a.slice(0, t, t + 1), b.slice(0, t, t + 1), labels({0})).item<double>();
  EXPECT_NEAR(disagreement(a, b, some).item<double>(), sum, 1e-5);
}

TEST(Consistency, GradientFlowsIntoBothPasses) {
  auto a = torch::empty({3, 4}), b = torch::empty({3, 4});
  RandomStream(1).fill_normal(a.data_ptr<float>(), 12);
  RandomStream(2).fill_normal(b.data_ptr<float>(), 12);
  a = a.to(torch::kFloat64).requires_grad_();
  b = b.to(torch::kFloat64).requires_grad_();
  const auto loss = [&] { return disagreement(a, b, labels({0, data::kIgnoredLabel, 1})); };
  EXPECT_LT(testing::finite_difference_gap(loss, a), 1e-6);
  EXPECT_LT(testing::finite_difference_gap(loss, b), 1e-6);
}

// A trainer on tiny text whose experts are drawn at random.
struct ThorRun {
  ThorRun(ConsistencyOptions consistency, const testing::TempDir& dir, int64_t micro_batch = 4) {
    Recipe recipe = testing::tiny_recipe("unused");
    recipe.model.dropout = 0;
    recipe.model.moe->gate = BlockSpec("random");
    recipe.model.moe->losses = {};
    recipe.train.consistency = consistency;
    recipe.train.micro_batch = micro_batch;
    const std::vector<data::Document> documents = {{.name = "tiny", .domain = "", .text = testing::tiny_text(300), .scored = {}}};
    const auto tokenizer = make_byte_tokenizer();
    tokens = std::make_unique<data::TokenFile>(data::open_token_file(dir / "tokens.bin", documents, *tokenizer, recipe.data.split));
    model = std::make_shared<LanguageModel>(resolved_model(recipe), 3);
    const TrainOptions& t = recipe.train;
    batches = std::make_unique<data::TrainBatches>(
        tokens->train(), data::TrainBatchOptions{.seq_len = t.seq_len, .batch_size = t.micro_batch_size(), .micro_batches = t.micro_batches(), .seed = 3});
    trainer = std::make_unique<Trainer>(model, t, 3, [this](int64_t step, int64_t micro) { return batches->batch(step, micro); });
  }

  // Mean disagreement per token of two evaluations that draw their own experts.
  double between_two_passes() {
    const EvalMode mode(*model);
    const auto batch = to_tensors(data::EvalBatches(tokens->validation(), {.seq_len = 32, .batch_size = 8}).batch(0));
    const auto logits = [&](uint64_t seed) {
      const auto all = model->logits(model->forward(batch.tokens, {.seed = seed}).hidden);
      return all.reshape({-1, all.size(-1)});
    };
    double sum = 0;
    for (uint64_t seed = 0; seed < 4; ++seed) sum += disagreement(logits(2 * seed), logits(2 * seed + 1), batch.labels).item<double>();
    return sum / 4 / (batch.labels != data::kIgnoredLabel).sum().item<double>();
  }

  std::unique_ptr<data::TokenFile> tokens;
  std::shared_ptr<LanguageModel> model;
  std::unique_ptr<data::TrainBatches> batches;
  std::unique_ptr<Trainer> trainer;
};

TEST(Thor, TwoPassesDrawTheirOwnExpertsAndReportTheirDisagreement) {
  const testing::TempDir dir;
  ThorRun run({.passes = 2, .alpha = 5}, dir);
  const StepMetrics first = run.trainer->step();
  ASSERT_EQ(first.aux.size(), 1u);
  EXPECT_EQ(first.aux[0].name, "consistency");
  EXPECT_NEAR(first.aux[0].weighted, 5 * first.aux[0].raw, 1e-9);
  EXPECT_GT(run.trainer->step().aux[0].raw, 0);
  ASSERT_EQ(first.layers.size(), 2u);
  bool differ = false;
  for (int i = 0; i < 6; ++i)
    for (const LayerMetrics& layer : run.trainer->step().layers) {
      double most = 0, sum = 0;
      for (const double share : layer.load) most = std::max(most, share), sum += share;
      EXPECT_NEAR(sum, 1, 1e-9);
      EXPECT_TRUE(most > 0.999 || std::abs(most - 0.5) < 1e-9) << "each pass sends all tokens to one expert";
      differ |= most < 0.9;
    }
  EXPECT_TRUE(differ);
}

// The expert is drawn per step, so that parts of a batch are as the whole.
TEST(Thor, MicroBatchesChangeNothing) {
  const testing::TempDir dir;
  ThorRun whole({.passes = 2, .alpha = 5}, dir, 4), parts({.passes = 2, .alpha = 5}, dir, 1);
  for (int i = 0; i < 4; ++i) {
    const StepMetrics a = whole.trainer->step(), b = parts.trainer->step();
    EXPECT_NEAR(a.loss, b.loss, 1e-5 * a.loss);
    EXPECT_NEAR(a.aux[0].raw, b.aux[0].raw, 1e-4 * std::max(1e-3, a.aux[0].raw)) << a.step;
    EXPECT_NEAR(a.grad_norm, b.grad_norm, 1e-3 * a.grad_norm);
  }
}

TEST(Thor, AlphaBringsRandomPassesTogether) {
  const testing::TempDir dir;
  const auto after = [&](double alpha) {
    ThorRun run({.passes = 2, .alpha = alpha}, dir);
    while (run.trainer->steps_done() < 60) (void)run.trainer->step();
    return run.between_two_passes();
  };
  const double free = after(0), some = after(1), much = after(10);
  EXPECT_GT(free, 0);
  EXPECT_LT(some, free);
  EXPECT_LT(much, 0.7 * some);
}

TEST(Thor, WrongNumbersOfPassesAreRefused) {
  for (const int64_t passes : {0, 3}) {
    Recipe recipe = testing::tiny_recipe("text.txt");
    recipe.train.consistency.passes = passes;
    testing::expect_error(ErrorKind::config, {"train.consistency.passes"}, [&] { check_recipe(recipe); });
  }
}

}  // namespace
}  // namespace switchyard::consistency_test
