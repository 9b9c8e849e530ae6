#include "eval/trace_run.h"

#include "data/tokenize_corpus.h"
#include "report/run_files.h"
#include "test_files.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

std::vector<data::Document> documents_of_two_domains() {
  std::vector<data::Document> out;
  for (const char* domain : {"verse", "prose"})
    for (int i = 0; i < 2; ++i) {
      std::string text;
      for (int line = 0; line < 40; ++line) text += std::string(domain) + " line " + std::to_string(line * 7 + i) + "\n";
      out.push_back({.name = domain + std::to_string(i), .domain = domain, .text = text, .scored = {}});
    }
  return out;
}

ModelSpec traced_spec(bool sparse) {
  ModelSpec spec{.vocab_size = 257, .d_model = 16, .num_layers = 3, .num_heads = 2, .d_ff = 16, .max_positions = 32, .moe = {}};
  if (!sparse) return spec;
  spec.moe.emplace();
  spec.moe->num_experts = 5;
  spec.moe->every = 2;
  spec.moe->offset = 1;
  return spec;
}

class TraceRunTest : public ::testing::Test {
 protected:
  TraceRunTest() : tokenizer_(make_byte_tokenizer()) {
    tokens_ = std::make_unique<data::TokenFile>(
        data::open_token_file(dir_ / "tokens.bin", documents_of_two_domains(), *tokenizer_, {.validation_fraction = 0.3}));
  }
  testing::TempDir dir_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<data::TokenFile> tokens_;
};

TEST_F(TraceRunTest, TheReportReadsIt) {
  LanguageModel model(traced_spec(true), 5);
  const auto json = trace_routing(model, *tokenizer_, *tokens_, {.seq_len = 32, .passage_tokens = 40});
  const report::Trace trace = report::parse_trace(json.dump(), "trace.json");
  ASSERT_EQ(trace.layers.size(), 1u);
  EXPECT_EQ(trace.layers[0].layer, 1);
  EXPECT_EQ(trace.layers[0].top_k, 2);
  EXPECT_EQ(trace.category_names, (std::vector<std::string>{"verse", "prose"}));
  EXPECT_EQ(trace.tokens.size(), 40u);  // 20 per domain
  ASSERT_EQ(trace.excerpts.size(), 2u);
  EXPECT_EQ(trace.excerpts[1].token, 20);
  EXPECT_EQ(trace.excerpts[1].name, "prose0");
  for (const auto& row : trace.category_share[0]) {
    double sum = 0;
    for (const double share : row) sum += share;
    EXPECT_NEAR(sum, 1, 5 * 1e-4);  // five values of four decimals
  }
  for (size_t t = 0; t < trace.tokens.size(); ++t) {
    ASSERT_EQ(trace.routing[0].experts[t].size(), 2u);
    EXPECT_NEAR(trace.routing[0].weights[t][0] + trace.routing[0].weights[t][1], 1, 2e-4);
    EXPECT_GE(trace.routing[0].weights[t][0], trace.routing[0].weights[t][1]);
  }
  for (size_t e = 0; e < 5; ++e) EXPECT_NEAR(trace.similarity[0][e][e], 1, 1e-4);
}

TEST_F(TraceRunTest, ADenseModelHasNothingToTrace) {
  LanguageModel model(traced_spec(false), 5);
  const report::Trace trace = report::parse_trace(trace_routing(model, *tokenizer_, *tokens_, {.seq_len = 32}).dump(), "trace.json");
  EXPECT_TRUE(trace.layers.empty());
  EXPECT_TRUE(trace.tokens.empty());
}

}  // namespace
}  // namespace switchyard
