// Experts cut from dense networks (LLaMA-MoE, arXiv:2406.16554).
#include "core/ops.h"
#include "data/tokenize_corpus.h"
#include "expect_error.h"
#include "steps/slice_sets.h"
#include "steps/trainer.h"
#include "support/moe_oracle.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace switchyard::slice_test {  // its own: tests of a folder compile as one unit
namespace {

ModelSpec dense_spec(const char* ffn = "swiglu") {
  return {.vocab_size = 257, .d_model = 16, .num_layers = 2, .num_heads = 2, .d_ff = 24, .ffn = ffn, .max_positions = 64, .init_std = 0.3, .moe = {}};
}

bool is_partition(const NeuronSets& sets, int64_t neurons) {
  std::vector<int64_t> all;
  for (const auto& set : sets) {
    if (set.size() != static_cast<size_t>(neurons) / sets.size() || !std::is_sorted(set.begin(), set.end())) return false;
    all.insert(all.end(), set.begin(), set.end());
  }
  std::sort(all.begin(), all.end());
  std::vector<int64_t> want(static_cast<size_t>(neurons));
  std::iota(want.begin(), want.end(), 0);
  return all == want;
}

class SliceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string text;
    for (int i = 0; i < 300; ++i) text += "the " + std::string(i % 3 == 0 ? "quick dog" : "lazy cat") + " number " + std::to_string(i * 37 % 101) + " sat\n";
    const std::vector<data::Document> documents{{.name = "a", .domain = "d", .text = text, .scored = {}}};
    tokens_.emplace(data::open_token_file(dir_ / "t.bin", documents, *make_byte_tokenizer(), {.validation_fraction = 0.2}));
  }
  testing::TempDir dir_;
  std::optional<data::TokenFile> tokens_;
};

TEST_F(SliceTest, EveryMethodGivesAPartitionWhoseSlicesAreTheDenseTensorsBitForBit) {
  for (const char* ffn : {"swiglu", "relu"})
    for (const char* method : {"random", "clusters", "coactivation", "gradient"}) {
      LanguageModel dense(dense_spec(ffn), 3);
      const auto sets = slice_sets(dense, method, 4, 1, &tokens_->validation(), {.seq_len = 32, .max_tokens = 300});
      ASSERT_EQ(sets.size(), 2u);
      for (const auto& layer : sets) EXPECT_TRUE(is_partition(layer, 24)) << method;
      EXPECT_EQ(sets, slice_sets(dense, method, 4, 1, &tokens_->validation(), {.seq_len = 32, .max_tokens = 300})) << method;
      const auto experts = slice_networks(dense, {.num_experts = 4, .top_k = 2}, sets);
      for (int64_t i = 0; i < 2; ++i) {
        const std::string layer = "layers." + std::to_string(i) + ".ffn.";
        const auto p = experts->named_parameters();
        const auto again = joined_slices(p[layer + "experts.w_in"], p[layer + "experts.w_out"], sets[static_cast<size_t>(i)]);
        EXPECT_TRUE(torch::equal(again.w_in, dense.named_parameters()[layer + "w_in"])) << method;
        EXPECT_TRUE(torch::equal(again.w_out, dense.named_parameters()[layer + "w_out"])) << method;
      }
      for (const auto& p : dense.parameters()) EXPECT_FALSE(p.grad().defined()) << method << " leaves no gradient";
    }
}

TEST_F(SliceTest, AllExpertsWithWeightOneAreTheDenseNetwork) {
  for (const char* ffn : {"swiglu", "geglu", "relu", "gelu"}) {
    LanguageModel dense(dense_spec(ffn), 3);
    const auto experts = slice_networks(dense, {.num_experts = 6, .top_k = 2}, slice_sets(dense, "random", 6, 1));
    const torch::NoGradGuard no_grad;
    auto x = torch::empty({19, 16});
    RandomStream(5).fill_normal(x.data_ptr<float>(), x.numel());
    MoELayer& layer = *experts->moe_layers()[1].second;
    const TokenChoice all{torch::arange(6, torch::kInt64).expand({19, 6}).contiguous(), torch::full({19, 6}, 1 / layer.options().routed_scale)};
    const auto bank = std::dynamic_pointer_cast<ExpertBank>(dense.named_modules("", /*include_self=*/false)["layers.1.ffn"]);
    const auto want = bank->forward(x, torch::tensor({0, 19}, torch::kInt64), {});
    EXPECT_TRUE(testing::all_close(layer.apply(x, GateInput{}, {.choice = all}), want, 1e-5)) << ffn;
  }
}

TEST_F(SliceTest, HasAsManyParametersAsTheDenseModelPlusItsGates) {
  const ModelSpec dense = dense_spec(), experts = sliced_spec(dense, {.num_experts = 4, .top_k = 2});
  EXPECT_EQ(experts.moe->d_expert, 6);
  EXPECT_EQ(experts.moe->routed_scale, 2);
  EXPECT_EQ(count_parameters(experts).total, count_parameters(dense).total + 2 * (4 * 16 + 4 * 4 + 4 * 16));  // Linear, Linear, noise
  // The published totals of LLaMA-2-7B in 16 and in 8 slices.
  const ModelSpec llama{.vocab_size = 32000, .d_model = 4096, .num_layers = 32, .num_heads = 32, .d_ff = 11008, .max_positions = 4096, .moe = {}};
  EXPECT_EQ(count_parameters(sliced_spec(llama, {.num_experts = 16, .top_k = 4})).total, 6'742'618'112);
  EXPECT_EQ(count_parameters(sliced_spec(llama, {.num_experts = 8, .top_k = 2})).total, 6'740'514'816);
}

TEST_F(SliceTest, RecoversByALittleTraining) {
  const auto train = [&](const std::shared_ptr<LanguageModel>& model, int64_t steps) {
    const data::TrainBatches batches(tokens_->train(), {.seq_len = 32, .batch_size = 8, .seed = 1});
    TrainOptions options{.steps = steps, .batch_size = 8, .seq_len = 32, .compute = "float32"};
    options.optimizer.lr = 1e-2;
    options.schedule.warmup_steps = 5;
    Trainer trainer(model, options, 1, [&](int64_t step, int64_t micro) { return batches.batch(step, micro); });
    double last = 0;
    for (int64_t i = 0; i < steps; ++i) last = i < steps - 10 ? (trainer.step(), 0) : last + trainer.step().loss / 10;
    return last;
  };
  ModelSpec spec = dense_spec();
  spec.init_std = 0.02;
  const auto dense = std::make_shared<LanguageModel>(spec, 3);
  const double before = train(dense, 100);
  const auto experts = slice_networks(*dense, {.num_experts = 4, .top_k = 2}, slice_sets(*dense, "coactivation", 4, 1, &tokens_->validation(), {.seq_len = 32, .max_tokens = 600}));
  EXPECT_LT(train(experts, 60), 1.2 * before);
}

TEST_F(SliceTest, WhatMakesNoSenseIsRefused) {
  LanguageModel dense(dense_spec(), 3);
  testing::expect_error(ErrorKind::config, {"24 neurons", "num_experts = 5"}, [&] { (void)slice_sets(dense, "random", 5, 1); });
  testing::expect_error(ErrorKind::config, {"top_k = 9", "num_experts = 8"}, [&] { (void)sliced_spec(dense_spec(), {.num_experts = 8, .top_k = 9}); });
  testing::expect_error(ErrorKind::usage, {"'cluster'", "clusters"}, [&] { (void)slice_sets(dense, "cluster", 4, 1); });
  testing::expect_error(ErrorKind::usage, {"'gradient' needs a text"}, [&] { (void)slice_sets(dense, "gradient", 4, 1); });
  ModelSpec experts = dense_spec();
  experts.moe.emplace();
  testing::expect_error(ErrorKind::unsupported, {"has experts"}, [&] { (void)sliced_spec(experts, {}); });
  ModelSpec biased = dense_spec();
  biased.ffn = {"swiglu", {{"bias", true}}};
  testing::expect_error(ErrorKind::unsupported, {"bias = true"}, [&] { (void)sliced_spec(biased, {}); });
}

// Two groups of neurons that fire together must not be torn apart.
TEST(BalancedClusters, FindGroupsOfEqualSizeThatAreThere) {
  auto features = torch::zeros({12, 5});
  RandomStream(2).fill_normal(features.data_ptr<float>(), features.numel());
  features *= 0.1;
  for (int64_t n = 0; n < 12; ++n) features[n][n % 3] += 3;
  const auto sets = balanced_clusters(features, 3, RandomStream(7));
  ASSERT_TRUE(is_partition(sets, 12));
  for (const auto& set : sets)
    for (const int64_t n : set) EXPECT_EQ(n % 3, set[0] % 3);
}

}  // namespace
}  // namespace switchyard::slice_test
