#include "base/config_tree.h"
#include "expect_error.h"
#include "models/small_specs.h"
#include "switchyard/language_model.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

namespace switchyard::testing {
namespace {

void expect_refused(std::initializer_list<std::string_view> words, const std::function<void(ModelSpec&)>& spoil) {
  ModelSpec spec = small_spec();
  spoil(spec);
  expect_error(ErrorKind::config, words, [&] { (void)spec.resolved(); });
}

TEST(ModelSpec, DerivedSizesAreFilledIn) {
  ModelSpec s = small_spec();
  s.num_kv_heads = s.head_dim = 0;
  s.moe->d_expert = 0;
  const ModelSpec r = s.resolved();
  EXPECT_EQ(r.num_kv_heads, 2);
  EXPECT_EQ(r.head_dim, 6);
  EXPECT_EQ(r.moe->d_expert, 10);
}

TEST(ModelSpec, LayersWithExpertsFollowFrequencyOffsetAndDenseStart) {
  ModelSpec s = small_spec();
  s.num_layers = 7;
  s.moe->every = 2;
  s.moe->offset = 1;
  s.moe->first_k_dense = 3;
  std::vector<int64_t> layers;
  for (int64_t i = 0; i < s.num_layers; ++i)
    if (s.is_moe_layer(i)) layers.push_back(i);
  EXPECT_EQ(layers, (std::vector<int64_t>{3, 5}));
}

TEST(ModelSpec, ZeroAndNegativeSizesAreRefusedByName) {
  expect_refused({"vocab_size = 0", "tokenizer"}, [](ModelSpec& s) { s.vocab_size = 0; });
  expect_refused({"vocab_size = -1"}, [](ModelSpec& s) { s.vocab_size = -1; });
  expect_refused({"d_model = 0"}, [](ModelSpec& s) { s.d_model = 0; });
  expect_refused({"num_layers = 0"}, [](ModelSpec& s) { s.num_layers = 0; });
  expect_refused({"num_heads = 0"}, [](ModelSpec& s) { s.num_heads = 0; });
  expect_refused({"d_ff = -4"}, [](ModelSpec& s) { s.d_ff = -4; });
  expect_refused({"max_positions = 0"}, [](ModelSpec& s) { s.max_positions = 0; });
  expect_refused({"norm_eps = 0"}, [](ModelSpec& s) { s.norm_eps = 0; });
  expect_refused({"rope_theta = -1"}, [](ModelSpec& s) { s.rope_theta = -1; });
  expect_refused({"dropout = 1"}, [](ModelSpec& s) { s.dropout = 1; });
  expect_refused({"num_experts = 0"}, [](ModelSpec& s) { s.moe->num_experts = 0; });
  expect_refused({"num_shared_experts = -1"}, [](ModelSpec& s) { s.moe->num_shared_experts = -1; });
  expect_refused({"every = 0"}, [](ModelSpec& s) { s.moe->every = 0; });
  expect_refused({"d_model", "at most"}, [](ModelSpec& s) { s.d_model = int64_t{1} << 40; });
  expect_refused({"parameters"}, [](ModelSpec& s) { s.moe->num_experts = s.moe->d_expert = s.d_model = 1 << 30; });
}

TEST(ModelSpec, SizesThatDoNotFitEachOtherAreRefused) {
  expect_refused({"num_kv_heads = 3", "num_heads = 2"}, [](ModelSpec& s) { s.num_kv_heads = 3; });
  expect_refused({"num_heads = 5", "d_model = 12"}, [](ModelSpec& s) { s.num_heads = s.num_kv_heads = 5, s.head_dim = 0; });
  expect_refused({"head_dim = 3", "odd"}, [](ModelSpec& s) { s.head_dim = 3; });
  expect_refused({"no layer", "offset = 5"}, [](ModelSpec& s) { s.moe->offset = 5; });
  expect_refused({"top_k = 9 exceeds num_experts = 4"}, [](ModelSpec& s) { s.moe->gate = {"top_k", {{"k", 9}}}; });
}

TEST(ModelSpec, UnknownPartsAndOptionsAreRefusedWithTheNearestName) {
  expect_refused({"swigul", "swiglu"}, [](ModelSpec& s) { s.moe->experts = "swigul"; });
  expect_refused({"swigul", "swiglu"}, [](ModelSpec& s) { s.ffn = "swigul"; });
  expect_refused({"top_q", "top_k"}, [](ModelSpec& s) { s.moe->gate = "top_q"; });
  expect_refused({"renormalize", "renormalise"}, [](ModelSpec& s) { s.moe->gate = {"top_k", {{"renormalize", true}}}; });
  expect_refused({"load_balanse", "load_balance"}, [](ModelSpec& s) { s.moe->losses = {"load_balanse"}; });
  expect_refused({"layer_reduce", "max"}, [](ModelSpec& s) { s.moe->losses = {{"router_z", {{"layer_reduce", "max"}}}}; });
  expect_refused({"rounding", "up"}, [](ModelSpec& s) { s.moe->capacity.rounding = "up"; });
  expect_refused({"overflow", "spill"}, [](ModelSpec& s) { s.moe->capacity.overflow = "spill"; });
  expect_refused({"dispatcher", "locl", "local"}, [](ModelSpec& s) { s.moe->dispatcher = "locl"; });
}

TEST(ModelSpec, WhatLooksAheadIsRefusedInACausalModel) {
  expect_refused({"priority", "score", "causal"}, [](ModelSpec& s) {
    s.moe->capacity.factor = 1.25;
    s.moe->capacity.priority = "score";
  });
}

TEST(ModelSpec, UnknownKeysOfARecipeNameTheNearestKeyAndTheLine) {
  const auto root = parse_toml("d_model = 8\n[moe]\nnum_expert = 4\n", "r.toml");
  expect_error(ErrorKind::config, {"r.toml:3", "num_expert", "num_experts"}, [&] { (void)read_model_spec(root, "model"); });
}

TEST(ModelSpec, PrintedAndReadBackIsEqual) {
  const ModelSpec s = mixtral_like_spec();
  const auto printed = to_json(s);
  EXPECT_EQ(to_json(read_model_spec(config_from_json(printed, "spec"), "spec")), printed);
}

ModelSpec random_spec(std::mt19937& rng) {
  const auto draw = [&](int64_t low, int64_t high) { return low + static_cast<int64_t>(rng() % static_cast<uint64_t>(high - low + 1)); };
  const char* kinds[] = {"relu", "gelu", "geglu", "swiglu"};
  ModelSpec s;
  s.vocab_size = draw(1, 40);
  s.num_kv_heads = draw(1, 3);
  s.num_heads = s.num_kv_heads * draw(1, 3);
  s.head_dim = 2 * draw(1, 4);
  s.d_model = draw(1, 30);
  s.num_layers = draw(1, 4);
  s.d_ff = draw(1, 20);
  s.ffn = kinds[rng() % 4];
  s.max_positions = draw(1, 50);
  s.tie_embeddings = rng() % 2;
  if (rng() % 4 == 0) return s;
  MoESpec& m = s.moe.emplace();
  m.num_experts = draw(1, 5);
  m.d_expert = draw(0, 9);
  m.experts = kinds[rng() % 4];
  m.num_shared_experts = draw(0, 2);
  m.every = draw(1, s.num_layers);
  m.offset = m.every - 1;
  m.gate = {"chain", ConfigNode{{"select", ConfigNode{{"kind", "top_k"}, {"k", draw(1, m.num_experts)}}},
                                {"score", ConfigNode{{"kind", "linear"}, {"bias", rng() % 2 == 0}}},
                                {"weigh", "raw"}}};
  return s;
}

TEST(ParameterCount, EqualsTheBuiltModelForRandomSpecifications) {
  std::mt19937 rng(7);
  for (int trial = 0; trial < 60; ++trial) {
    const ModelSpec s = random_spec(rng);
    int64_t built = 0;
    for (const auto& p : LanguageModel(s, std::nullopt).parameters()) built += p.numel();
    const auto count = count_parameters(s);
    EXPECT_EQ(count.total, built) << to_json(s).dump();
    int64_t sum = 0;
    for (const auto& part : count.parts) sum += part.total;
    EXPECT_EQ(sum, count.total);
    EXPECT_LE(count.active, count.total);
  }
}

// A token attention belongs to the bank and to none of its experts.
TEST(ParameterCount, CountsWhatExpertsShareOncePerLayer) {
  for (const int64_t shared : {0, 1}) {
    ModelSpec s = testing::small_spec();
    s.moe->experts = {"biased_linear", {{"reduction", 2}}};
    s.moe->num_shared_experts = shared;
    s.ffn = s.moe->experts;
    int64_t built = 0;
    for (const auto& p : LanguageModel(s, std::nullopt).parameters()) built += p.numel();
    EXPECT_EQ(count_parameters(s).total, built);
  }
}

TEST(ParameterCount, MixtralHasThePublishedSize) {
  // arXiv:2401.04088 section 2 and table 1: 47B parameters, 13B active. Nothing of that size is allocated.
  ModelSpec s;
  s.vocab_size = 32000;
  s.d_model = 4096;
  s.num_layers = 32;
  s.num_heads = 32;
  s.num_kv_heads = 8;
  s.d_ff = 14336;
  s.max_positions = 32768;
  s.moe.emplace();
  const auto count = count_parameters(s);
  EXPECT_EQ(count.total, 46'702'792'704);
  EXPECT_EQ(count.active, 12'879'925'248);
}

TEST(ParameterCount, FlopsOfOneTokenFollowTheFormula) {
  ModelSpec s = small_spec();
  // Two layers of attention: q, o [8, 12], k, v [4, 12]; 8 keys on average; one dense SwiGLU layer, one with 2 of 4 experts.
  const double attention = 2 * (2.0 * 12 * (8 + 8 + 4 + 4) + 4.0 * 8 * 8), dense = 2.0 * 3 * 12 * 10, router = 2.0 * 4 * 12, experts = 2 * (2.0 * 3 * 12 * 6),
               head = 2.0 * 19 * 12;
  EXPECT_EQ(count_parameters(s).flops_per_token, attention + dense + router + experts + head);
}

}  // namespace
}  // namespace switchyard::testing
