// Trained experts that become partly the same (PAD-Net, arXiv:2211.05528).
#include "steps/partition.h"

#include "data/tokenize_corpus.h"
#include "expect_error.h"
#include "experts/partial.h"
#include "steps/trainer.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <cmath>

namespace switchyard::partition_test {  // its own: tests of a folder compile as one unit
namespace {

ModelSpec spec_of(const BlockSpec& experts) {
  ModelSpec s{.vocab_size = 257, .d_model = 16, .num_layers = 2, .num_heads = 2, .d_ff = 16, .max_positions = 64, .moe = MoESpec{}};
  s.moe->num_experts = 4;
  s.moe->experts = experts;
  return s;
}

class PartitionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string text;
    for (int i = 0; i < 300; ++i) text += "the " + std::string(i % 3 == 0 ? "quick dog" : "lazy cat") + " number " + std::to_string(i * 37 % 101) + " sat\n";
    const std::vector<data::Document> documents{{.name = "a", .domain = "d", .text = text, .scored = {}}};
    tokens_.emplace(data::open_token_file(dir_ / "t.bin", documents, *make_byte_tokenizer(), {.validation_fraction = 0.2}));
  }

  [[nodiscard]] PartitionOptions options(double keep, int64_t rounds = 3) const { return {.keep = keep, .rounds = rounds, .windows = {.seq_len = 32, .max_tokens = 300}}; }

  double loss_of(LanguageModel& model) const {
    const data::TrainBatches batches(tokens_->train(), {.seq_len = 32, .batch_size = 8, .seed = 5});
    const torch::NoGradGuard no_grad;
    model.eval();
    TokenBatch batch;
    const auto b = batches.batch(0, 0);
    batch.input_ids = torch::tensor(std::vector<int32_t>(b.input_ids.begin(), b.input_ids.end())).to(torch::kInt64).view({b.batch, b.seq});
    const auto logits = model.logits(model.forward(batch).hidden);
    return ops::cross_entropy(logits.slice(1, 0, -1).flatten(0, 1), batch.input_ids.slice(1, 1).flatten()).mean().item<double>();
  }

  std::shared_ptr<LanguageModel> trained(std::shared_ptr<LanguageModel> model, int64_t steps) const {
    const data::TrainBatches batches(tokens_->train(), {.seq_len = 32, .batch_size = 8, .seed = 1});
    TrainOptions options{.steps = steps, .batch_size = 8, .seq_len = 32, .compute = "float32"};
    options.optimizer.lr = 1e-2;
    options.schedule.warmup_steps = 5;
    Trainer trainer(model, options, 1, [&](int64_t step, int64_t micro) { return batches.batch(step, micro); });
    while (trainer.steps_done() < steps) (void)trainer.step();
    return model;
  }
  testing::TempDir dir_;
  std::optional<data::TokenFile> tokens_;
};

TEST_F(PartitionTest, LeavesTheShareThatIsAskedForAndStoresLess) {
  LanguageModel model(spec_of("swiglu"), 3);
  PartitionReport report;
  const auto part = partitioned(model, tokens_->validation(), options(0.25), &report);
  const int64_t in = 32 * 16, out = 16 * 16;
  EXPECT_EQ(report.entries, 2 * (in + out));
  EXPECT_EQ(report.dynamic, 2 * (std::llround(0.25 * in) + std::llround(0.25 * out)));
  EXPECT_EQ(report.stored_before, 4 * report.entries);
  EXPECT_EQ(report.stored, 4 * report.dynamic + report.entries - report.dynamic);
  for (const auto& p : part->parameters()) EXPECT_FALSE(p.grad().defined());
}

TEST_F(PartitionTest, KeepingAllIsTheModelItself) {
  LanguageModel model(spec_of("relu"), 3);
  const auto part = partitioned(model, tokens_->validation(), options(1));
  EXPECT_EQ(loss_of(*part), loss_of(model));
}

TEST_F(PartitionTest, HalfOfATrainedModelIsNearlyAsGoodAfterALittleTraining) {
  const auto model = trained(std::make_shared<LanguageModel>(spec_of("swiglu"), 3), 80);
  const auto part = trained(partitioned(*model, tokens_->validation(), options(0.5)), 30);
  EXPECT_LT(loss_of(*part), 1.2 * loss_of(*model));
  // Training has left the mask alone, and goes on from it.
  PartitionReport report;
  (void)partitioned(*part, tokens_->validation(), options(0.25, 1), &report);
  EXPECT_EQ(report.stored_before, 4 * 2 * (256 + 128) + 2 * (256 + 128));
}

TEST_F(PartitionTest, WhatMakesNoSenseIsRefused) {
  LanguageModel experts(spec_of("swiglu"), 3), linear(spec_of("linear"), 3);
  ModelSpec without = spec_of("swiglu");
  without.moe.reset();
  LanguageModel dense(without, 3);
  testing::expect_error(ErrorKind::usage, {"keep = 2"}, [&] { (void)partitioned(experts, tokens_->validation(), options(2)); });
  testing::expect_error(ErrorKind::unsupported, {"no feed-forward experts"}, [&] { (void)partitioned(dense, tokens_->validation(), options(0.5)); });
  testing::expect_error(ErrorKind::unsupported, {"'linear'", "no partial form"}, [&] { (void)partitioned(linear, tokens_->validation(), options(0.5)); });
}

}  // namespace
}  // namespace switchyard::partition_test
