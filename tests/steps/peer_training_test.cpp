// PEER in a training run: only rows that were looked up move, and their moments alone are kept up.
#include "data/tokenize_corpus.h"
#include "steps/trainer.h"
#include "test_files.h"

#include <gtest/gtest.h>

namespace switchyard::peer_training_test {  // its own: tests of a folder compile as one unit
namespace {

TEST(PeerTraining, RowsThatNobodyLookedUpStayBitForBit) {
  testing::TempDir dir;
  std::string text;
  for (int i = 0; i < 200; ++i) text += "line " + std::to_string(i * 37 % 101) + "\n";
  const std::vector<data::Document> documents{{.name = "a", .domain = "d", .text = text, .scored = {}}};
  const data::TokenFile tokens = data::open_token_file(dir / "t.bin", documents, *make_byte_tokenizer(), {.validation_fraction = 0.2});
  ModelSpec spec{.vocab_size = 257, .d_model = 16, .num_layers = 1, .num_heads = 2, .d_ff = 16, .max_positions = 64, .moe = {}};
  spec.ffn = {"peer", {{"num_keys", 64}, {"heads", 2}, {"k", 4}, {"d_key", 8}}};
  const auto model = std::make_shared<LanguageModel>(spec, 3);
  const data::TrainBatches batches(tokens.train(), {.seq_len = 16, .batch_size = 2, .micro_batches = 2, .seed = 1});
  TrainOptions options{.steps = 3, .batch_size = 4, .seq_len = 16, .micro_batch = 2, .compute = "float32"};
  options.grad_clip = 0.5;
  Trainer trainer(model, options, 1, [&](int64_t step, int64_t micro) { return batches.batch(step, micro); });
  const auto before = model->named_parameters()["layers.0.ffn.w_out"].detach().clone();
  while (trainer.steps_done() < options.steps) EXPECT_GT(trainer.step().grad_norm, 0);
  const auto moved = (model->named_parameters()["layers.0.ffn.w_out"] != before).any(1);
  Checkpoint checkpoint;
  trainer.save(checkpoint);
  const auto first = checkpoint.training_tensors.at("adamw.m.layers.0.ffn.w_out");
  EXPECT_TRUE(torch::equal(first.ne(0).any(1), moved)) << "moments where weights moved, and nowhere else";
  const int64_t rows = moved.sum().item<int64_t>();
  EXPECT_GT(rows, 0);
  EXPECT_LE(rows, 3 * 4 * 16 * 8);
  EXPECT_LT(rows, 4096) << "some of 64^2 neurons were never looked up";
}

}  // namespace
}  // namespace switchyard::peer_training_test
