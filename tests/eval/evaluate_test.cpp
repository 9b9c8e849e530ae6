#include "eval/evaluate.h"

#include "data/tokenize_corpus.h"
#include "expect_error.h"
#include "io/tokenizer/tokenizer.h"
#include "test_files.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace switchyard {
namespace {

ModelSpec small_sparse_spec() {
  ModelSpec spec{.vocab_size = 257, .d_model = 16, .num_layers = 2, .num_heads = 2, .d_ff = 16, .max_positions = 16, .dropout = 0.3, .moe = MoESpec{}};
  spec.moe->num_experts = 3;
  spec.moe->gate = {"top_k", {{"k", 2}, {"jitter_eps", 0.1}}};
  return spec;
}

class EvaluateTest : public ::testing::Test {
 protected:
  EvaluateTest() : model_(small_sparse_spec(), 5) {
    const std::vector<data::Document> documents = {{.name = "a", .domain = "", .text = "It was the best of times, it was the worst of times", .scored = {}},
                                                   {.name = "b", .domain = "", .text = "Call me Ishmael.", .scored = {}}};
    const auto tokenizer = make_byte_tokenizer();
    tokens_ = std::make_unique<data::TokenFile>(
        data::open_token_file(dir_ / "tokens.bin", documents, *tokenizer, {.validation_fraction = 0}));
  }
  const data::TokenStream& text() const { return tokens_->train(); }

  testing::TempDir dir_;
  LanguageModel model_;
  std::unique_ptr<data::TokenFile> tokens_;
};

// Oracle: window by window, one forward pass each, softmax in double.
struct BruteForce {
  std::vector<double> loss;
  std::vector<int64_t> tokens;
  int64_t right = 0;
};

BruteForce losses_by_windows(LanguageModel& model, const data::TokenStream& text, int64_t seq_len) {
  model.eval();
  BruteForce out;
  for (int64_t start = 0; start + 1 < text.size(); start += seq_len) {
    std::vector<int64_t> ids, labels;
    for (int64_t i = start; i < std::min(start + seq_len, text.size() - 1); ++i) {
      ids.push_back(text.token(i));
      labels.push_back(text.scored(i + 1) ? text.token(i + 1) : -1);
    }
    const auto hidden = model.forward({.input_ids = torch::tensor(ids).unsqueeze(0), .positions = {}, .segments = {}}).hidden;
    const auto logp = model.logits(hidden)[0].to(torch::kFloat64).log_softmax(-1);
    out.loss.push_back(0);
    out.tokens.push_back(0);
    for (size_t i = 0; i < labels.size(); ++i) {
      if (labels[i] < 0) continue;
      out.loss.back() -= logp[static_cast<int64_t>(i)][labels[i]].item<double>();
      ++out.tokens.back();
      out.right += logp[static_cast<int64_t>(i)].argmax().item<int64_t>() == labels[i];
    }
  }
  return out;
}

TEST_F(EvaluateTest, EqualsBruteForce) {
  constexpr int64_t kSeq = 13;  // divides nothing
  const BruteForce want = losses_by_windows(model_, text(), kSeq);
  double sum = 0, tokens = 0;
  for (size_t w = 0; w < want.loss.size(); ++w) sum += want.loss[w], tokens += static_cast<double>(want.tokens[w]);
  const double loss = sum / tokens;
  double squares = 0;
  for (size_t w = 0; w < want.loss.size(); ++w) squares += std::pow(want.loss[w] - loss * static_cast<double>(want.tokens[w]), 2);
  const double windows = static_cast<double>(want.loss.size());
  const double se = std::sqrt(windows / (windows - 1) * squares) / tokens;

  for (const int64_t batch_size : {1, 3, 100}) {
    const auto got = evaluate(model_, text(), {.seq_len = kSeq, .batch_size = batch_size, .cross_documents = true});
    ASSERT_TRUE(got);
    EXPECT_NEAR(got->loss, loss, 1e-5 * loss) << "batch_size " << batch_size;
    EXPECT_NEAR(got->loss_se, se, 1e-4 * se);
    EXPECT_EQ(static_cast<double>(got->tokens), tokens);
    EXPECT_DOUBLE_EQ(got->accuracy, static_cast<double>(want.right) / tokens);
    EXPECT_DOUBLE_EQ(got->perplexity, std::exp(got->loss));
    EXPECT_DOUBLE_EQ(got->perplexity_se, got->perplexity * got->loss_se);
    const double bits = got->loss * tokens / std::log(2.0);
    EXPECT_NEAR(got->bits_per_byte, bits / static_cast<double>(text().scored_bytes()), 1e-12 * bits);
  }
}

// Experts that are drawn at random, one per token or text: a function of the place in the text, not of the batch.
TEST_F(EvaluateTest, RandomExpertsDoNotDependOnTheBatchSize) {
  for (const char* unit : {"token", "sequence"}) {
    auto spec = small_sparse_spec();
    spec.moe->gate = {"random", {{"eval_unit", unit}}};
    LanguageModel model(spec, 5);
    const auto one = evaluate(model, text(), {.seq_len = 8, .batch_size = 1}), all = evaluate(model, text(), {.seq_len = 8, .batch_size = 16});
    EXPECT_NEAR(one->loss, all->loss, 1e-6) << unit;
  }
}

TEST_F(EvaluateTest, IsTheSameEveryTimeAndLeavesTheModeAlone) {
  model_.train();
  const auto a = evaluate(model_, text(), {.seq_len = 16});
  EXPECT_TRUE(model_.is_training());
  const auto b = evaluate(model_, text(), {.seq_len = 16});
  EXPECT_EQ(a->loss, b->loss);  // no dropout, no jitter
  for (const auto& p : model_.parameters()) EXPECT_FALSE(p.grad().defined());
}

TEST_F(EvaluateTest, AUniformModelNeedsLogVocabularyPerToken) {
  const c10::NoGradGuard no_grad;
  for (const auto& item : model_.named_parameters())
    if (item.key() == "head") item.value().zero_();
  const auto result = evaluate(model_, text(), {.seq_len = 16});
  EXPECT_NEAR(result->loss, std::log(257.0), 1e-6);
  EXPECT_NEAR(result->loss_se, 0, 1e-6);
  EXPECT_NEAR(result->perplexity, 257, 1e-3);
}

TEST_F(EvaluateTest, TakesAPartOfTheTextWhenAsked) {
  const auto result = evaluate(model_, text(), {.seq_len = 8, .max_tokens = 20});
  EXPECT_EQ(result->windows, 3);
}

TEST_F(EvaluateTest, StopsWhenAskedAndNamesLossesThatAreNotFinite) {
  EXPECT_FALSE(evaluate(model_, text(), {.seq_len = 16}, [] { return true; }));
  {
    const c10::NoGradGuard no_grad;
    for (const auto& item : model_.named_parameters())
      if (item.key() == "norm") item.value().fill_(std::nan(""));
  }
  testing::expect_error(ErrorKind::numeric, {"not finite"}, [&] { (void)evaluate(model_, text(), {.seq_len = 16}); });
}

}  // namespace
}  // namespace switchyard
