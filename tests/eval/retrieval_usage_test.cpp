// Usage of PEER tables: closed forms, and a model whose lookups are counted by hand.
#include "eval/retrieval_usage.h"

#include "data/tokenize_corpus.h"
#include "experts/peer.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <cmath>

namespace switchyard::retrieval_usage_test {  // its own: tests of a folder compile as one unit
namespace {

TEST(RetrievalUsage, HasItsClosedForms) {
  const auto of = [](std::vector<double> weight) {
    const auto w = torch::tensor(weight, torch::kFloat64);
    return RetrievalUsage{w.gt(0).to(torch::kInt64), w};
  };
  EXPECT_NEAR(of({2, 2, 2, 2}).unevenness(), 0, 1e-12);
  EXPECT_NEAR(of({0, 5, 0, 0}).unevenness(), std::log(4.0), 1e-12);
  EXPECT_NEAR(of({1, 3, 0, 0}).unevenness(), std::log(4.0) + 0.25 * std::log(0.25) + 0.75 * std::log(0.75), 1e-12);
  EXPECT_EQ(of({1, 3, 0, 0}).used(), 0.5);
  EXPECT_TRUE(std::isnan(of({0, 0}).unevenness()));
}

TEST(RetrievalUsage, CountsEveryLookupOfEveryTokenThatIsNoPadding) {
  testing::TempDir dir;
  std::string text;
  for (int i = 0; i < 60; ++i) text += "line " + std::to_string(i * 37 % 101) + "\n";
  const std::vector<data::Document> documents{{.name = "a", .domain = "d", .text = text, .scored = {}}};
  const data::TokenFile tokens = data::open_token_file(dir / "t.bin", documents, *make_byte_tokenizer(), {.validation_fraction = 0.5});
  ModelSpec spec{.vocab_size = 257, .d_model = 16, .num_layers = 2, .num_heads = 2, .d_ff = 16, .max_positions = 64, .moe = {}};
  spec.ffn = {"peer", {{"num_keys", 8}, {"heads", 2}, {"k", 3}, {"d_key", 8}}};
  LanguageModel model(spec, 3);
  int64_t seen = 0;
  const WindowOptions options{.seq_len = 50, .max_tokens = 10000};
  visit_windows(model, tokens.validation(), options, [&](const data::Batch& batch) { seen += places_of(batch).ge(0).sum().item<int64_t>(); });
  ASSERT_NE(seen % 50, 0) << "the last window is padded";
  const auto usage = retrieval_usage(model, tokens.validation(), options);
  ASSERT_EQ(usage.size(), 2u);
  for (const auto& [name, table] : usage) {
    EXPECT_EQ(table.reads.sum().item<int64_t>(), seen * 2 * 3) << name;
    EXPECT_NEAR(table.weight.sum().item<double>(), static_cast<double>(seen * 2), 1e-3) << name << ": each head's weights sum to one";
    EXPECT_GT(table.used(), 0.1);
  }
}

}  // namespace
}  // namespace switchyard::retrieval_usage_test
