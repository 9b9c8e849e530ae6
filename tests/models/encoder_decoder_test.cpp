// What holds for every model of two stacks, and what its parts compute.
#include "expect_error.h"
#include "models/encoder_stack.h"
#include "models/golden.h"
#include "models/position_tables.h"
#include "models/small_specs.h"
#include "switchyard/language_model.h"

#include <cmath>

namespace switchyard::encoder_decoder_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::close_to;
using testing::expect_error;

// Two blocks of the decoder, the second with experts, behind an encoder of one block.
ModelSpec two_stacks(const std::string& positions) {
  ModelSpec s = testing::small_spec();
  s.positions = positions;
  s.num_layers = 4;
  s.pattern.resize(4);
  s.pattern[0].kind = s.pattern[2].kind = "attention";
  s.pattern[1].kind = "cross_attention+dense";
  s.pattern[3].kind = "cross_attention+moe";
  s.moe->every = 1, s.moe->offset = 0;
  s.encoder.emplace();
  s.encoder->num_layers = 2;
  s.encoder->pattern.resize(2);
  s.encoder->pattern[0].kind = "attention+dense";
  s.encoder->pattern[1].kind = "attention+moe";
  return s;
}

TokenBatch batch_of(const torch::Tensor& source, const torch::Tensor& text) {
  TokenBatch out{.input_ids = text, .positions = {}, .segments = {}};
  out.source_ids = source;
  return out;
}

torch::Tensor some_ids(std::vector<int64_t> ids) { return torch::tensor(std::move(ids), torch::kInt64).view({1, -1}); }

class Positions : public ::testing::TestWithParam<const char*> {};

TEST_P(Positions, TokenByTokenWithACacheEqualsTheWholeText) {
  LanguageModel model(two_stacks(GetParam()));
  model.eval();
  const torch::NoGradGuard no_grad;
  const auto source = some_ids({3, 1, 4, 1, 5}), text = some_ids({9, 2, 6, 5, 3, 5});
  const auto whole = model.forward(batch_of(source, text)).hidden;
  KvCache cache(model.spec(), 1, 6);
  ForwardOptions options;
  options.cache = &cache;
  std::vector<torch::Tensor> parts{model.forward(batch_of(source, text.slice(1, 0, 2)), options).hidden};
  for (int64_t i = 2; i < 6; ++i) parts.push_back(model.forward(batch_of({}, text.slice(1, i, i + 1)), options).hidden);
  EXPECT_TRUE(close_to(at::cat(parts, 1), whole, 2e-5, 2e-5));
}

TEST_P(Positions, TheWholeSourceIsSeenAndOfTheTextOnlyWhatWasBefore) {
  LanguageModel model(two_stacks(GetParam()));
  model.eval();
  const torch::NoGradGuard no_grad;
  const auto before = model.forward(batch_of(some_ids({3, 1, 4, 1, 5}), some_ids({9, 2, 6}))).hidden;
  const auto other_end = model.forward(batch_of(some_ids({3, 1, 4, 1, 5}), some_ids({9, 2, 7}))).hidden;
  EXPECT_TRUE(close_to(other_end.slice(1, 0, 2), before.slice(1, 0, 2), 1e-6, 1e-6));
  const auto other_source = model.forward(batch_of(some_ids({3, 1, 4, 1, 6}), some_ids({9, 2, 6}))).hidden;
  EXPECT_FALSE(close_to(other_source.select(1, 0), before.select(1, 0), 1e-4, 1e-4)) << "the last token of the source reaches the first of the text";
}

TEST_P(Positions, CountsAreThoseOfTheModuleTree) {
  const ModelSpec spec = two_stacks(GetParam()).resolved();
  const LanguageModel model(spec);
  int64_t parameters = 0;
  for (const auto& p : model.parameters()) parameters += p.numel();
  EXPECT_EQ(count_parameters(spec).total, parameters);
}

TEST_P(Positions, GradientsReachTheEmbeddingThroughBothStacks) {
  LanguageModel model(two_stacks(GetParam()));
  const auto text = some_ids({9, 2}), source = some_ids({3, 1});
  model.forward(batch_of(source, text)).hidden.sum().backward();
  const auto g = model.named_parameters()["embed"].grad().abs().sum(1);
  for (int64_t id = 0; id < 19; ++id) EXPECT_EQ(g[id].item<float>() > 0, id == 9 || id == 2 || id == 3 || id == 1) << id;
  for (const auto& item : model.named_parameters())
    EXPECT_TRUE(item.value().grad().defined() || item.key().find("experts") != std::string::npos || item.key() == "head") << item.key();
}

INSTANTIATE_TEST_SUITE_P(All, Positions, ::testing::Values("rotary", "learned", "sinusoidal", "relative", "relative_first", "none"));

TEST(EncoderDecoder, WhatDoesNotFitIsRefusedByName) {
  ModelSpec s = two_stacks("relative");
  s.encoder.reset();
  expect_error(ErrorKind::config, {"cross_attention", "model.encoder"}, [&] { (void)s.resolved(); });
  s = two_stacks("relative");
  s.pattern[1].kind = "dense", s.pattern[3].kind = "moe";
  expect_error(ErrorKind::config, {"model.encoder", "nobody reads"}, [&] { (void)s.resolved(); });
  s = two_stacks("relative");
  s.encoder->num_layers = 0;
  expect_error(ErrorKind::config, {"model.encoder", "num_layers = 0"}, [&] { (void)s.resolved(); });
  s = two_stacks("relative");
  s.relative_buckets = 3;
  expect_error(ErrorKind::config, {"relative_buckets = 3"}, [&] { (void)s.resolved(); });
  s = two_stacks("relative");
  s.relative_distance = 16;
  expect_error(ErrorKind::config, {"relative_distance = 16"}, [&] { (void)s.resolved(); });
  s = two_stacks("relative");
  s.pattern[0].kind = "mla";
  expect_error(ErrorKind::config, {"relative", "mla"}, [&] { (void)s.resolved(); });
  LanguageModel model(two_stacks("none"));
  expect_error(ErrorKind::usage, {"source_ids"}, [&] { (void)model.forward(batch_of({}, some_ids({1, 2}))); });
  expect_error(ErrorKind::usage, {"source_ids", "1 texts"}, [&] { (void)model.forward(batch_of(torch::zeros({2, 3}, torch::kInt64), some_ids({1, 2}))); });
  LanguageModel alone(testing::small_spec());
  expect_error(ErrorKind::usage, {"source_ids", "no encoder"}, [&] { (void)alone.forward(batch_of(some_ids({1}), some_ids({1, 2}))); });
}

TEST(EncoderDecoder, BlocksBeginWithAttentionToTheirOwnStack) {
  ModelSpec s = two_stacks("relative");
  s.num_layers = 5;
  s.pattern.emplace_back(), s.pattern.back().kind = "dense";
  s = s.resolved();
  std::vector<int64_t> blocks;
  for (int64_t i = 0; i < 5; ++i) blocks.push_back(block_of_layer(s, i));
  EXPECT_EQ(blocks, (std::vector<int64_t>{0, 0, 1, 1, 1}));
}

// The rule as arXiv:1910.10683 and its code state it, once per direction, by counting instead of by cases.
int64_t bucket_by_counting(int64_t key_minus_query, bool both_ways, int64_t buckets, int64_t max_distance) {
  const int64_t half = both_ways ? buckets / 2 : buckets;
  const int64_t away = both_ways ? std::abs(key_minus_query) : std::max<int64_t>(0, -key_minus_query);
  const int64_t first = both_ways && key_minus_query > 0 ? half : 0, near = half / 2;
  int64_t row = 0;
  for (int64_t d = 1; d <= away; ++d) {  // a new row begins where the logarithm passes a whole number
    const double at = near * std::pow(static_cast<double>(max_distance) / static_cast<double>(near), static_cast<double>(row + 1 - near) / static_cast<double>(half - near));
    if (d < near || (d == near && row < near) || (row + 1 < half && static_cast<double>(d) >= at - 1e-6)) ++row;
  }
  return first + row;
}

TEST(RelativePositions, BucketsEqualTheFormula) {
  for (const auto& [buckets, far] : {std::pair<int64_t, int64_t>{32, 128}, {8, 20}, {16, 100}})
    for (const bool causal : {false, true})
      for (int64_t d = -200; d <= 200; ++d)
        EXPECT_EQ(relative_bucket(torch::tensor({d}), causal, buckets, far)[0].item<int64_t>(), bucket_by_counting(d, !causal, buckets, far))
            << d << " " << buckets << " " << causal;
}

TEST(RelativePositions, TheBiasOfAPairIsTheRowOfItsDistance) {
  ModelSpec s = two_stacks("relative");
  const auto table = torch::arange(64, torch::kFloat32).view({32, 2});
  const auto bias = relative_bias(table, 3, 2, 5, s);  // queries 3 and 4
  ASSERT_EQ(bias.sizes(), (std::vector<int64_t>{1, 2, 2, 5}));
  for (int64_t q = 0; q < 2; ++q)
    for (int64_t k = 0; k < 5; ++k)
      for (int64_t h = 0; h < 2; ++h)
        EXPECT_EQ(bias[0][h][q][k].item<float>(), table[bucket_by_counting(k - (q + 3), false, 32, 128)][h].item<float>()) << q << " " << k;
}

// Without attention in the first layers only later ones can tell one table from another.
TEST(RelativePositions, ActInEveryLayerOrInTheFirstAlone) {
  for (const bool first_only : {false, true}) {
    LanguageModel model(two_stacks(first_only ? "relative_first" : "relative"));
    model.eval();
    const torch::NoGradGuard no_grad;
    auto weights = model.named_parameters();
    const auto run = [&] { return model.forward(batch_of(some_ids({3, 1, 4, 1, 5}), some_ids({9, 2, 6}))).hidden; };
    for (const char* stack : {"", "encoder."}) {
      const auto before = run();
      weights[std::string(stack) + "relative"].neg_();
      EXPECT_FALSE(close_to(run(), before, 1e-4, 0)) << "the first layer of '" << stack << "' has a bias";
      weights[std::string(stack) + "layers.0.attn.o_proj"].zero_();
      const auto deaf = run();
      weights[std::string(stack) + "relative"].neg_();
      EXPECT_EQ(static_cast<bool>(close_to(run(), deaf, 1e-6, 0)), first_only) << stack;
    }
  }
}

TEST(SinusoidalPositions, AreSinesThenCosinesAndZeroForPadding) {
  const auto ids = torch::tensor({5, 1, 7, 8, 1, 9}, torch::kInt64).view({1, -1});
  const auto positions = numbered_positions(ids, {}, 1, nullptr);
  EXPECT_TRUE(positions.equal(torch::tensor({2, -1, 3, 4, -1, 5}, torch::kInt64).view({1, -1}))) << positions;
  const auto table = sinusoidal(positions, 6);
  const std::vector<int64_t> expected{2, -1, 3, 4, -1, 5};
  for (int64_t s = 0; s < 6; ++s)
    for (int64_t i = 0; i < 3; ++i) {
      const auto p = static_cast<double>(expected[static_cast<size_t>(s)]);
      const double angle = p * std::pow(10000.0, -static_cast<double>(i) / 2);
      EXPECT_NEAR(table[0][s][i].item<float>(), p < 0 ? 0 : std::sin(angle), 1e-6);
      EXPECT_NEAR(table[0][s][3 + i].item<float>(), p < 0 ? 0 : std::cos(angle), 1e-6);
    }
}

}  // namespace
}  // namespace switchyard::encoder_decoder_test
