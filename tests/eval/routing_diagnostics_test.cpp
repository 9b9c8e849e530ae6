// Diagnostics of routing on tables made by hand.
#include "eval/routing_diagnostics.h"

#include "data/tokenize_corpus.h"
#include "eval/routing_record.h"
#include "expect_error.h"
#include "steps/trainer.h"
#include "switchyard/random.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace switchyard::routing_diagnostics_test {  // its own: tests of a folder compile as one unit
namespace {

using Ids = std::vector<int32_t>;

TEST(RoutingDiagnostics, ATableOfLabelsGivesOneAndIndependenceGivesTheExpectedBias) {
  Ids labels, by_table, by_chance;
  const RandomStream random(3);
  for (uint64_t i = 0; i < 40000; ++i) {
    labels.push_back(static_cast<int32_t>(random.below(2 * i, 20)));
    by_table.push_back(labels.back() * 7 % 5);
    by_chance.push_back(static_cast<int32_t>(random.below(2 * i + 1, 5)));
  }
  const auto table = specialisation(labels, by_table), chance = specialisation(labels, by_chance);
  EXPECT_NEAR(table.share, 1, 1e-9);
  const double bias = (5 - 1) * (20 - 1) / (2.0 * 40000 * std::log(5.0));  // of the estimate, for independent labels
  EXPECT_NEAR(table.by_chance, bias, bias);
  EXPECT_NEAR(chance.share, bias, bias);
}

TEST(RoutingDiagnostics, AHandTableAndWhatIsLeftOut) {
  // Joint counts: label 0 -> experts 0,0,1; label 1 -> expert 1; a token without an expert does not count.
  const Ids labels = {0, 0, 0, 1, 1}, experts = {0, 0, 1, 1, -1};
  const double h = std::log(2.0);
  const double information = 0.5 * std::log(0.5 / (0.75 * 0.5)) + 0.25 * std::log(0.25 / (0.75 * 0.5)) + 0.25 * std::log(0.25 / (0.25 * 0.5));
  EXPECT_NEAR(specialisation(labels, experts).share, information / h, 1e-12);
  EXPECT_EQ(specialisation(Ids{1, 2}, Ids{3, 3}).share, 0) << "one expert: nothing to know";
  EXPECT_EQ(specialisation(Ids{}, Ids{}).share, 0);
  testing::expect_error(ErrorKind::usage, {"2 labels, 1 experts"}, [] { (void)specialisation(Ids{1, 2}, Ids{1}); });
}

TEST(RoutingDiagnostics, SameMajorityComparesLabelByLabel) {
  const Ids before_labels = {0, 0, 0, 1, 1, 2, 3}, before = {4, 4, 5, 1, 2, 0, 0};
  const Ids after_labels = {0, 1, 2, 2, 9}, after = {4, 1, 3, 3, 0};
  EXPECT_NEAR(same_majority(before_labels, before, after_labels, after), 2.0 / 3, 1e-12);  // 0 and 1 (tie: lower) stay, 2 moves
  EXPECT_NEAR(same_majority(before_labels, before, after_labels, after, 2), 0, 1e-12);      // of those with two choices both times: none
}

TEST(RoutingDiagnostics, DropsByPosition) {
  const auto curve = drop_curve(Ids{0, 1, 2, 3, 4, 5, 6, 99}, std::vector<uint8_t>{0, 0, 1, 0, 1, 1, 1, 1}, 4, 2);
  ASSERT_EQ(curve.size(), 4u);
  EXPECT_EQ(curve[0], 0);
  EXPECT_EQ(curve[1], 0.5);
  EXPECT_EQ(curve[2], 1);
  EXPECT_EQ(curve[3], 1);
  EXPECT_TRUE(std::isnan(drop_curve(Ids{0}, std::vector<uint8_t>{1}, 2, 1)[1]));
}

// Arrival order fills the places of the popular experts with early tokens.
TEST(RoutingDiagnostics, ArrivalDropsTowardsTheEndOfTheBatch) {
  testing::TempDir dir;
  std::string text;
  for (int i = 0; i < 400; ++i) text += "line " + std::to_string(i * 37 % 101) + "\n";
  const auto tokenizer = make_byte_tokenizer();
  const std::vector<data::Document> documents{{.name = "a", .domain = "d", .text = text, .scored = {}}};
  const data::TokenFile tokens = data::open_token_file(dir / "t.bin", documents, *tokenizer, {.validation_fraction = 0.5});
  ModelSpec spec{.vocab_size = 257, .d_model = 16, .num_layers = 1, .num_heads = 2, .d_ff = 16, .max_positions = 64, .init_std = 0.5, .moe = MoESpec{}};
  LanguageModel model(spec, 3);
  const auto at = [&](double factor) { return record_routing(model, tokens.validation(), {.seq_len = 64, .max_tokens = 1000, .capacity_factor = factor}).at(0); };
  const RoutingRecord all = at(0), tight = at(0.5);
  EXPECT_EQ(std::count(all.dropped.begin(), all.dropped.end(), 1), 0);
  ASSERT_EQ(tight.dropped.size(), all.dropped.size());
  const auto half = static_cast<std::ptrdiff_t>(tight.dropped.size() / 2);
  EXPECT_LT(std::count(tight.dropped.begin(), tight.dropped.begin() + half, 1), std::count(tight.dropped.begin() + half, tight.dropped.end(), 1));
  EXPECT_EQ(all.token.size(), all.expert.size());
  EXPECT_EQ(all.position[0], 0);
}

// The first finding of OpenMoE, on a top-2 model of a minute's text: routing follows the token id, not the place.
TEST(RoutingDiagnostics, ATrainedGateFollowsTokenIdsRatherThanPositions) {
  testing::TempDir dir;
  std::string text;
  for (int i = 0; i < 900; ++i) text += "the " + std::string(i % 3 == 0 ? "quick dog" : "lazy cat") + " number " + std::to_string(i * 37 % 101) + " sat\n";
  const std::vector<data::Document> documents{{.name = "a", .domain = "d", .text = text, .scored = {}}};
  const data::TokenFile tokens = data::open_token_file(dir / "t.bin", documents, *make_byte_tokenizer(), {.validation_fraction = 0.2});
  ModelSpec spec{.vocab_size = 257, .d_model = 16, .num_layers = 1, .num_heads = 2, .d_ff = 16, .max_positions = 64, .moe = MoESpec{}};
  spec.moe->losses = {{"load_balance", {{"weight", 0.01}}}, {"router_z", {{"weight", 0.001}}}};
  auto model = std::make_shared<LanguageModel>(spec, 3);
  const data::TrainBatches batches(tokens.train(), {.seq_len = 64, .batch_size = 8, .seed = 1});
  TrainOptions options{.steps = 60, .batch_size = 8, .seq_len = 64, .compute = "float32"};
  options.optimizer.lr = 1e-2;
  options.schedule.warmup_steps = 5;
  Trainer trainer(model, options, 1, [&](int64_t step, int64_t micro) { return batches.batch(step, micro); });
  while (trainer.steps_done() < options.steps) (void)trainer.step();
  const RoutingRecord record = record_routing(*model, tokens.validation(), {.seq_len = 64, .max_tokens = 4000}).at(0);
  const auto by_token = specialisation(record.token, record.expert), by_position = specialisation(record.position, record.expert);
  EXPECT_GT(by_token.share - by_token.by_chance, 0.2);
  EXPECT_LT(by_position.share - by_position.by_chance, 0.1 * (by_token.share - by_token.by_chance));
}

}  // namespace
}  // namespace switchyard::routing_diagnostics_test
