// Mixtures of domain experts: Bayes by hand, the mixture against one forward pass per domain, and a model that has learnt two
// languages and tells them apart.
#include "eval/domain_mixture.h"

#include "data/tokenize_corpus.h"
#include "eval/batch_tensors.h"
#include "expect_error.h"
#include "io/tokenizer/tokenizer.h"
#include "models/eval_mode.h"
#include "steps/trainer.h"
#include "support/moe_oracle.h"
#include "test_files.h"

#include <cmath>
#include <numeric>

namespace switchyard::domain_mixture_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;

torch::Tensor matrix(std::vector<double> values, int64_t columns) { return torch::tensor(values, torch::kFloat64).view({-1, columns}); }
torch::Tensor uniform(int64_t domains) { return torch::zeros({domains}, torch::kFloat64); }

TEST(DomainMixture, ReproducesTheWorkedExample) {
  const auto likelihood = matrix({.2, .1, .05, .3, .05, .1, .1, .4, .1}, 3).log();
  const auto bayes = domain_mixture::posteriors(likelihood, uniform(3)).exp();
  EXPECT_TRUE(all_close(bayes[0], matrix({1. / 3, 1. / 3, 1. / 3}, 3)[0], 1e-12));
  EXPECT_TRUE(all_close(bayes[3], matrix({.705882, .235294, .058824}, 3)[0], 1e-6));
  const auto last = domain_mixture::posteriors(likelihood, uniform(3), /*history=*/false).exp();
  EXPECT_TRUE(all_close(last.slice(0, 1), matrix({.571429, .285714, .142857, .666667, .111111, .222222, .166667, .666667, .166667}, 3), 1e-6));
  torch::Tensor average;
  for (int64_t t = 1; t <= 3; ++t) average = domain_mixture::moving_average(average, last[t], 0.3);
  EXPECT_TRUE(all_close(average, matrix({.47, .363333, .166667}, 3)[0], 1e-6));
}

// Numbers so small that a double would lose them: oracle with an exponent of its own.
TEST(DomainMixture, AThousandTokensDoNotUnderflow) {
  constexpr int64_t T = 1000, J = 4;
  auto likelihood = torch::empty({T, J}, torch::kFloat64);
  long double product[J] = {1, 1, 1, 1};
  int64_t exponent[J] = {};
  for (int64_t t = 0; t < T; ++t)
    for (int64_t j = 0; j < J; ++j) {
      const double p = 1e-4 * (0.9 + 0.2 * RandomStream(3).uniform(static_cast<uint64_t>(t * J + j)));
      likelihood[t][j] = std::log(p);
      int e = 0;
      product[j] = std::frexp(product[j] * static_cast<long double>(p), &e);
      exponent[j] += e;
    }
  long double sum = 0;
  for (int64_t j = 0; j < J; ++j) sum += std::ldexp(product[j], static_cast<int>(exponent[j] - exponent[0]));
  const auto all = domain_mixture::posteriors(likelihood, uniform(J));
  for (int64_t j = 0; j < J; ++j)
    EXPECT_NEAR(all[T][j].exp().item<double>(), static_cast<double>(std::ldexp(product[j], static_cast<int>(exponent[j] - exponent[0])) / sum), 1e-9);
  EXPECT_TRUE(all_close(all.exp().sum(1), torch::ones({T + 1}, torch::kFloat64), 1e-12));
}

TEST(DomainMixture, AnExpertWithPriorZeroIsAnExpertRemoved) {
  const auto likelihood = matrix({.2, .1, .05, .3, .05, .1, .1, .4, .1}, 3).log();
  const auto without = domain_mixture::posteriors(likelihood, matrix({.5, 0, .5}, 3)[0].log());
  const auto rest = domain_mixture::posteriors(likelihood.index_select(1, torch::tensor({0, 2})), uniform(2));
  EXPECT_TRUE(all_close(without.exp().index_select(1, torch::tensor({0, 2})), rest.exp(), 1e-12));
  EXPECT_EQ(without.exp().select(1, 1).abs().max().item<double>(), 0);
  EXPECT_TRUE(all_close(domain_mixture::losses(likelihood, without), domain_mixture::losses(likelihood.index_select(1, torch::tensor({0, 2})), rest), 1e-12));
}

// Two languages over the same letters.
std::string sentences(bool first, int64_t count, uint64_t seed) {
  const char* here[] = {"abab ", "aabb ", "abba "};
  const char* there[] = {"ba ba ", "bbb a ", "b b a "};
  std::string out;
  for (int64_t i = 0; i < count; ++i) out += (first ? here : there)[RandomStream(seed).below(static_cast<uint64_t>(i), 3)];
  return out;
}

class TwoDomains : public ::testing::Test {
 protected:
  TwoDomains() {
    const std::vector<data::Document> documents = {{.name = "1", .domain = "here", .text = sentences(true, 600, 1), .scored = {}},
                                                   {.name = "2", .domain = "there", .text = sentences(false, 600, 2), .scored = {}}};
    tokens = open(documents, "t.bin");
    ModelSpec spec{.vocab_size = 257, .d_model = 16, .num_layers = 2, .num_heads = 2, .d_ff = 16, .max_positions = 64, .moe = MoESpec{}};
    spec.moe->num_experts = 2;
    spec.moe->d_expert = 16;
    spec.moe->gate = BlockSpec("by_tag");
    model = std::make_shared<LanguageModel>(spec, 5);
  }
  std::unique_ptr<data::TokenFile> open(const std::vector<data::Document>& documents, const char* name) {
    return std::make_unique<data::TokenFile>(data::open_token_file(dir / name, documents, *make_byte_tokenizer(), {.validation_fraction = 0}));
  }
  void train(int64_t steps) {
    const data::TrainBatches batches(tokens->train(), {.seq_len = 64, .batch_size = 8, .seed = 1});
    TrainOptions options{.steps = steps, .batch_size = 8, .seq_len = 64, .compute = "float32"};
    options.optimizer.lr = 1e-2;
    options.schedule.warmup_steps = 5;
    Trainer trainer(model, options, 1, [&](int64_t step, int64_t micro) { return batches.batch(step, micro); });
    while (trainer.steps_done() < steps) (void)trainer.step();
  }
  // Losses of one window with one tag on all its tokens.
  torch::Tensor losses(const data::Batch& batch, int64_t tag) {
    const EvalMode mode(*model);
    auto tensors = to_tensors(batch);
    tensors.tokens.tags = torch::full_like(tensors.tokens.input_ids, tag);
    const auto logits = model->logits(model->forward(tensors.tokens).hidden);
    return ops::cross_entropy(logits.reshape({-1, logits.size(-1)}), tensors.labels).to(torch::kFloat64);
  }

  testing::TempDir dir;
  std::unique_ptr<data::TokenFile> tokens;
  std::shared_ptr<LanguageModel> model;
};

// Oracle: window by window and token by token, probabilities and no logarithms.
TEST_F(TwoDomains, TheMixtureEqualsBayesByLoopsAndTheBatchSizeDoesNotMatter) {
  const auto& text = tokens->train();
  for (const int64_t update : {0, -1, 3}) {
    const DomainMixtureOptions mixture{.domains = 2, .prior = {.7, .3}, .update_blocks = update, .newest = .25};
    double prior[2] = {.7, .3}, average[2] = {-1, -1}, sum = 0;
    int64_t scored = 0, blocks = 0;
    const data::EvalBatches windows(text, {.seq_len = 24, .batch_size = 1});
    for (int64_t w = 0; w < windows.size(); ++w) {
      const auto batch = windows.batch(w);
      const torch::Tensor loss[2] = {losses(batch, 0), losses(batch, 1)};
      for (int64_t begin = 0; begin < batch.seq;) {
        double posterior[2] = {prior[0], prior[1]}, said[2] = {.5, .5};
        int64_t i = begin;
        for (; i < batch.seq && batch.segments[i] == batch.segments[begin]; ++i) {
          if (batch.labels[i] == data::kIgnoredLabel) continue;
          const double p[2] = {std::exp(-loss[0][i].item<double>()), std::exp(-loss[1][i].item<double>())};
          sum -= std::log(posterior[0] * p[0] + posterior[1] * p[1]);
          ++scored;
          for (double* each : {posterior, said}) {
            const double total = each[0] * p[0] + each[1] * p[1];
            for (int j = 0; j < 2; ++j) each[j] = each[j] * p[j] / total;
          }
        }
        if (batch.segments[begin] >= 0 && (update < 0 || blocks < update)) {
          for (int j = 0; j < 2; ++j) prior[j] = average[j] = average[j] < 0 ? said[j] : .75 * average[j] + .25 * said[j];
          ++blocks;
        }
        begin = i;
      }
    }
    for (const int64_t batch_size : {1, 7}) {
      const auto got = evaluate_domain_mixture(*model, text, {.seq_len = 24, .batch_size = batch_size}, mixture);
      ASSERT_TRUE(got);
      EXPECT_EQ(got->eval.tokens, scored);
      EXPECT_NEAR(got->eval.loss, sum / static_cast<double>(scored), 1e-6) << update;
      EXPECT_NEAR(got->prior[0], prior[0], 1e-5) << update;
      EXPECT_NEAR(got->posterior[0] + got->posterior[1], 1, 1e-12);
    }
  }
}

TEST_F(TwoDomains, AOneHotPriorIsTheSingleExpert) {
  const auto& text = tokens->train();
  for (const int64_t tag : {0, 1}) {
    const auto mixed = evaluate_domain_mixture(*model, text, {.seq_len = 32}, {.domains = 2, .prior = {tag == 0 ? 1. : 0., tag == 1 ? 1. : 0.}});
    const auto alone = evaluate_scores(*model, text, {.seq_len = 32}, [&](const data::Batch& batch, int64_t) {
      const auto each = losses(batch, tag).contiguous();
      return CellScores{{each.data_ptr<double>(), each.data_ptr<double>() + each.numel()}, {}};
    });
    EXPECT_NEAR(mixed->eval.loss, alone->loss, 1e-9);
    EXPECT_EQ(mixed->posterior[static_cast<size_t>(tag)], 1);
  }
}

TEST_F(TwoDomains, ATrainedModelKnowsTheDomainAfterFiftyTokensAndCachesItsPrior) {
  train(60);
  for (const bool first : {true, false}) {
    const auto unseen = open({{.name = "3", .domain = "unknown", .text = sentences(first, 300, first ? 11 : 12), .scored = {}}}, first ? "a.bin" : "b.bin");
    const size_t right = first ? 0 : 1;
    const auto batch = data::EvalBatches(unseen->train(), {.seq_len = 64, .batch_size = 1}).batch(0);
    const auto likelihood = -at::stack({losses(batch, 0), losses(batch, 1)}, 1);
    EXPECT_GT(domain_mixture::posteriors(likelihood, uniform(2))[50][static_cast<int64_t>(right)].exp().item<double>(), .9);

    const auto with = [&](DomainMixtureOptions o) { return *evaluate_domain_mixture(*model, unseen->train(), {.seq_len = 64}, o); };
    const auto plain = with({.domains = 2}), updating = with({.domains = 2, .update_blocks = -1});
    EXPECT_GT(updating.prior[right], .9);
    EXPECT_LT(updating.eval.loss, plain.eval.loss);
    // A prior that was estimated on one text serves another.
    const auto cached = with({.domains = 2, .prior = with({.domains = 2, .update_blocks = 5}).prior});
    EXPECT_LT(cached.eval.loss, plain.eval.loss);
    const auto wrong = with({.domains = 2, .prior = {first ? 0. : 1., first ? 1. : 0.}});
    EXPECT_LT(plain.eval.loss, wrong.eval.loss - 0.1);
  }
}

TEST_F(TwoDomains, PriorsThatAreNoProbabilitiesAreRefused) {
  const auto refused = [&](std::string_view words, DomainMixtureOptions o) {
    expect_error(ErrorKind::config, {"domain mixture", words}, [&] { (void)evaluate_domain_mixture(*model, tokens->train(), {.seq_len = 32}, o); });
  };
  refused("domains = 0", {});
  refused("sum", {.domains = 2, .prior = {.5, .6}});
  refused("prior has 3", {.domains = 2, .prior = {.5, .3, .2}});
  refused("nan", {.domains = 2, .prior = {1.5, -.5}});
  refused("newest = 0", {.domains = 2, .newest = 0});
}

}  // namespace
}  // namespace switchyard::domain_mixture_test
