// Rules of inference on one model: each against what it is made of.
#include "eval/eval_rule.h"

#include "data/tokenize_corpus.h"
#include "expect_error.h"
#include "io/tokenizer/tokenizer.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <cmath>

namespace switchyard::eval_rule_test {
namespace {

class EvalRuleTest : public ::testing::Test {
 protected:
  static ModelSpec spec() {
    ModelSpec s{.vocab_size = 257, .d_model = 16, .num_layers = 2, .num_heads = 2, .d_ff = 16, .max_positions = 32, .init_std = 0.3, .moe = MoESpec{}};
    s.moe->num_experts = 4;
    return s;
  }
  EvalRuleTest() : model_(spec(), 5) {
    const std::vector<data::Document> documents = {{.name = "a", .domain = "", .text = "It was the best of times, it was the worst of times, it was", .scored = {}}};
    tokens_ = std::make_unique<data::TokenFile>(data::open_token_file(dir_ / "tokens.bin", documents, *make_byte_tokenizer(), {.validation_fraction = 0}));
  }
  EvalResult measured(const EvalRule& rule) { return evaluate_rule(model_, tokens_->train(), {.seq_len = 16}, rule)->eval; }

  testing::TempDir dir_;
  LanguageModel model_;
  std::unique_ptr<data::TokenFile> tokens_;
};

TEST_F(EvalRuleTest, WithoutAnythingItIsThePlainEvaluation) {
  const auto plain = evaluate(model_, tokens_->train(), {.seq_len = 16});
  EXPECT_EQ(measured({.name = "plain"}).loss, plain->loss);
  EXPECT_EQ(measured({.name = "the same k", .set = {"moe.gate.k=2"}}).loss, plain->loss);
  EXPECT_NE(measured({.name = "all", .set = {"moe.gate.k=4"}}).loss, plain->loss);
}

// Oracle: token by token from two full passes, with the function that generation uses.
TEST_F(EvalRuleTest, ContrastIsTheTwoPassesOfGeneration) {
  const ContrastOptions contrast_options{.beta = 0.5, .alpha = 0.2, .ranks = {2}};
  const auto got = measured({.name = "contrast", .contrast = contrast_options});
  model_.eval();
  const torch::NoGradGuard no_grad;
  const auto weak = with_ranks(model_, {2});
  const auto& text = tokens_->train();
  double loss = 0, right = 0, count = 0;
  for (int64_t start = 0; start + 1 < text.size(); start += 16) {
    std::vector<int64_t> ids;
    for (int64_t i = start; i < std::min<int64_t>(start + 16, text.size() - 1); ++i) ids.push_back(text.token(i));
    const TokenBatch batch{.input_ids = torch::tensor(ids).unsqueeze(0), .positions = {}, .segments = {}};
    const auto strong = model_.logits(model_.forward(batch).hidden)[0].contiguous(), other = weak->logits(weak->forward(batch).hidden)[0].contiguous();
    for (size_t i = 0; i < ids.size(); ++i) {
      const int64_t label = text.token(start + static_cast<int64_t>(i) + 1);
      const auto row = [&](const torch::Tensor& x) { return std::span<const float>(x.data_ptr<float>() + static_cast<int64_t>(i) * 257, 257); };
      const auto z = contrast(row(strong), row(other), 0.5, 0.2), whole = contrast(row(strong), row(other), 0.5, 1e-30);
      right += std::max_element(z.begin(), z.end()) - z.begin() == label;
      loss -= torch::tensor(whole).to(torch::kFloat64).log_softmax(0)[label].item<double>();
      ++count;
    }
  }
  EXPECT_EQ(static_cast<double>(got.tokens), count);
  EXPECT_NEAR(got.loss, loss / count, 1e-5);
  EXPECT_DOUBLE_EQ(got.accuracy, right / count);
}

TEST_F(EvalRuleTest, RefusesWhatMakesNoSenseTogether) {
  testing::expect_error(ErrorKind::usage, {"exclude"}, [&] { (void)measured({.domains = 2, .tag = 1}); });
  testing::expect_error(ErrorKind::usage, {"prior = 'old'"}, [&] { (void)measured({.domains = 2, .prior = "old"}); });
  testing::expect_error(ErrorKind::usage, {"alpha = 2"}, [&] { (void)measured({.contrast = {.beta = 1, .alpha = 2}}); });
  testing::expect_error(ErrorKind::config, {"moe.gate"}, [&] { (void)measured({.set = {"moe.gate.kk=2"}}); });
}

}  // namespace
}  // namespace switchyard::eval_rule_test
