// Activation ratios from counters against stored activations, and predictivity on tables made by hand.
#include "eval/neuron_activity.h"

#include "core/ffn_bank.h"
#include "data/tokenize_corpus.h"
#include "eval/neuron_predictivity.h"
#include "expect_error.h"
#include "steps/trainer.h"
#include "switchyard/random.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <cmath>

namespace switchyard::neuron_activity_test {  // its own: tests of a folder compile as one unit
namespace {

ModelSpec spec_of(const char* kind) {
  ModelSpec s{.vocab_size = 257, .d_model = 16, .num_layers = 2, .num_heads = 2, .d_ff = 24, .ffn = kind, .max_positions = 64, .moe = MoESpec{}};
  s.moe->num_experts = 4;
  s.moe->d_expert = 12;
  s.moe->num_shared_experts = 1;
  s.moe->experts = kind;
  s.moe->every = 2;
  s.moe->offset = 1;
  return s;
}

// A text of two domains of lines, short enough to leave padding in the last window.
class NeuronActivityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string numbers, words;
    for (int i = 0; i < 150; ++i) numbers += std::to_string(i * 37 % 1009) + " + " + std::to_string(i) + "\n", words += "the lazy dog sat on a mat\n";
    const std::vector<data::Document> documents{{.name = "a", .domain = "numbers", .text = numbers, .scored = {}},
                                                {.name = "b", .domain = "words", .text = words, .scored = {}}};
    tokens_.emplace(data::open_token_file(dir_ / "t.bin", documents, *make_byte_tokenizer(), {.validation_fraction = 0.3}));
  }
  testing::TempDir dir_;
  std::optional<data::TokenFile> tokens_;
};

TEST_F(NeuronActivityTest, StreamingCountersEqualStoredActivations) {
  LanguageModel model(spec_of("relu"), 3);
  const ActivityOptions options{.windows = {.seq_len = 50, .max_tokens = 700}, .keep_values = true};
  const auto activity = neuron_activity(model, tokens_->validation(), options);
  ASSERT_EQ(activity.banks.size(), 3u);
  const auto tokens = static_cast<int64_t>(activity.domains.size());
  for (const auto& [name, bank] : activity.banks) {
    ASSERT_EQ(bank.values.size(0), tokens) << name;
    const auto stored = (bank.values > 0).sum(0).view_as(bank.active);
    EXPECT_TRUE(torch::equal(stored, bank.active)) << name;
    const int64_t rows = bank.rows.sum().item<int64_t>();
    EXPECT_EQ(rows, name == "layers.1.ffn.experts" ? 2 * tokens : tokens) << name;
    EXPECT_EQ(bank.ratio(), stored.sum().item<double>() / static_cast<double>(rows * bank.active.size(1))) << name;
  }
  // The same counts without values, and the network is let go.
  const auto counted = neuron_activity(model, tokens_->validation(), {.windows = {.seq_len = 50, .max_tokens = 700}});
  for (const auto& [name, bank] : activity.banks) EXPECT_TRUE(torch::equal(bank.active, counted.banks.at(name).active)) << name;
  EXPECT_FALSE(counted.banks.begin()->second.values.defined());
}

// Values of the experts of a token against the network itself, neuron by neuron.
TEST_F(NeuronActivityTest, KeepsWhatTheNetworkComputesForEachToken) {
  LanguageModel model(spec_of("swiglu"), 3);
  const auto activity = neuron_activity(model, tokens_->validation(), {.windows = {.seq_len = 50, .max_tokens = 120}, .epsilon = 1e-3, .keep_values = true});
  const auto& bank = activity.banks.at("layers.1.ffn.experts");
  const auto seen = bank.values.view({-1, 4, 12}).abs().sum(2).gt(0).sum(1);
  EXPECT_TRUE(torch::equal(seen, torch::full_like(seen, 2))) << "two of four experts per token";
  EXPECT_TRUE(torch::equal((bank.values.abs() > 1e-3).sum(0).view_as(bank.active), bank.active));
}

// Symmetric weights and inputs of mean zero: half of the inner sums are positive.
TEST(NeuronActivity, IsAHalfForRandomWeights) {
  FfnBank bank(BankShape{.d_model = 32, .d_expert = 256, .seed = 5}, {.phi = "relu"});
  auto x = torch::empty({4000, 32});
  RandomStream(3).fill_normal(x.data_ptr<float>(), x.numel());
  double active = 0;
  bank.observe([&](const torch::Tensor&, const torch::Tensor& h, const RowContext&) { active = h.gt(0).to(torch::kFloat64).mean().item<double>(); });
  (void)bank.forward(x, torch::tensor({0, 4000}, torch::kInt64), {});
  EXPECT_NEAR(active, 0.5, 0.01);
}

TEST_F(NeuronActivityTest, TrainingDrivesReluNetworksBelowAHalf) {
  auto model = std::make_shared<LanguageModel>(spec_of("relu"), 3);
  const auto ratio = [&] { return neuron_activity(*model, tokens_->validation(), {.windows = {.seq_len = 64, .max_tokens = 1000}}).banks.at("layers.0.ffn").ratio(); };
  const double before = ratio();
  EXPECT_NEAR(before, 0.5, 0.1);
  const data::TrainBatches batches(tokens_->train(), {.seq_len = 64, .batch_size = 8, .seed = 1});
  TrainOptions options{.steps = 120, .batch_size = 8, .seq_len = 64, .compute = "float32"};
  options.optimizer.lr = 1e-2;
  Trainer trainer(model, options, 1, [&](int64_t step, int64_t micro) { return batches.batch(step, micro); });
  while (trainer.steps_done() < options.steps) (void)trainer.step();
  EXPECT_LT(ratio(), before - 0.1);
}

TEST_F(NeuronActivityTest, RefusesANegativeBound) {
  LanguageModel model(spec_of("relu"), 3);
  testing::expect_error(ErrorKind::usage, {"epsilon = -1"}, [&] { (void)neuron_activity(model, tokens_->validation(), {.epsilon = -1}); });
}

TEST(NeuronPredictivity, AveragePrecisionOfHandTables) {
  using Values = std::vector<float>;
  using Labels = std::vector<uint8_t>;
  EXPECT_EQ(average_precision(Values{4, 3, 2, 1}, Labels{1, 1, 0, 0}), 1);
  EXPECT_NEAR(average_precision(Values{4, 3, 2, 1}, Labels{0, 1, 0, 1}), (1 / 2.0 + 2 / 4.0) / 2, 1e-12);
  EXPECT_NEAR(average_precision(Values{1, 2, 3, 4}, Labels{1, 0, 0, 0}), 1 / 4.0, 1e-12);
  EXPECT_NEAR(average_precision(Values{0, 0, 0, 0, 0}, Labels{1, 0, 1, 0, 0}), 2 / 5.0, 1e-12) << "equal values: the share of the label";
  EXPECT_NEAR(average_precision(Values{2, NAN, 1}, Labels{0, 1, 0}), 1 / 3.0, 1e-12) << "NaN is last";
  EXPECT_EQ(average_precision(Values{1, 2}, Labels{0, 0}), 0);
  testing::expect_error(ErrorKind::usage, {"2 values, 1 labels"}, [] { (void)average_precision(Values{1, 2}, Labels{1}); });
}

// Four neurons per expert; those of the first two experts fire on one label each, those of the third on anything.
TEST(NeuronPredictivity, FindsExpertsOfOneFunctionAndNoOthers) {
  const int64_t tokens = 600, neurons = 12;
  std::vector<float> values;
  std::vector<int32_t> labels;
  const RandomStream random(7);
  for (int64_t t = 0; t < tokens; ++t) {
    labels.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(t), 2)));
    for (int64_t n = 0; n < neurons; ++n) {
      const bool own = n / 4 < 2 && labels.back() == n / 4;
      values.push_back(static_cast<float>(random.at("value").uniform(static_cast<uint64_t>(t * neurons + n)) + (own ? 1.0 : 0.0)));
    }
  }
  const auto pred = predictivity(values, labels, neurons, 2);
  EXPECT_NEAR(pred[0], 1, 1e-12);  // neuron 0, label 0: told apart without a mistake
  EXPECT_LT(pred[1], 0.5);
  EXPECT_NEAR(pred[2 * 4 * 1 + 1], 1, 1e-12);
  const auto found = expert_functions(pred, 3, 2);
  EXPECT_TRUE(found[0].functional());
  EXPECT_EQ(found[0].label, 0);
  EXPECT_TRUE(found[1].functional());
  EXPECT_EQ(found[1].label, 1);
  EXPECT_FALSE(found[2].functional());
  EXPECT_FALSE(expert_functions(pred, 1, 2)[0].functional()) << "all neurons are no better than all neurons";
  testing::expect_error(ErrorKind::usage, {"24 values for 5 experts"}, [&] { (void)expert_functions(pred, 5, 2); });
}

}  // namespace
}  // namespace switchyard::neuron_activity_test
