// Which layers have experts: the rules against the published lists.
#include "base/config_tree.h"
#include "expect_error.h"
#include "models/small_specs.h"
#include "switchyard/language_model.h"

#include <gtest/gtest.h>

#include <numeric>

namespace switchyard::placement_test {  // its own: tests of a folder compile as one unit
namespace {

using Layers = std::vector<int64_t>;

ModelSpec spec_of(int64_t num_layers, PlacementSpec where, int64_t every = 1, int64_t offset = 0, int64_t first_k_dense = 0) {
  ModelSpec s = testing::small_spec();
  s.num_layers = num_layers;
  s.moe->where = std::move(where);
  s.moe->every = every;
  s.moe->offset = offset;
  s.moe->first_k_dense = first_k_dense;
  return s;
}

Layers layers_of(const ModelSpec& spec) {
  const ModelSpec s = spec.resolved();
  Layers out;
  for (int64_t i = 0; i < s.num_layers; ++i)
    if (s.is_moe_layer(i)) out.push_back(i);
  return out;
}

Layers from_to(int64_t first, int64_t last, int64_t step = 1) {
  Layers out;
  for (int64_t i = first; i <= last; i += step) out.push_back(i);
  return out;
}

TEST(Placement, GivesTheLayersOfPublishedModels) {
  EXPECT_EQ(layers_of(spec_of(36, {}, 2, 1)), from_to(1, 35, 2));          // GShard
  EXPECT_EQ(layers_of(spec_of(24, {}, 4, 3)), from_to(3, 23, 4));          // ST-MoE, NLLB: 6 of 24
  EXPECT_EQ(layers_of(spec_of(24, {}, 6, 5)), (Layers{5, 11, 17, 23}));    // OpenMoE-8B
  EXPECT_EQ(layers_of(spec_of(32, {}, 2, 1)), from_to(1, 31, 2));          // Jamba
  EXPECT_EQ(layers_of(spec_of(32, {})), from_to(0, 31));                   // Mixtral
  EXPECT_EQ(layers_of(spec_of(61, {}, 1, 0, 3)), from_to(3, 60));          // DeepSeek-V3
  EXPECT_EQ(layers_of(spec_of(12, {"last_even", 2})), (Layers{9, 11}));    // V-MoE B, Last-2: blocks 10 and 12
  EXPECT_EQ(layers_of(spec_of(24, {"last_even", 5})), from_to(15, 23, 2)); // V-MoE L, Last-5
  EXPECT_EQ(layers_of(spec_of(13, {"last_even", 2})), (Layers{9, 11}));    // block 13 is odd
  EXPECT_EQ(layers_of(spec_of(24, {"first_half"})), from_to(0, 11));       // MoE-LLaVA with 24 layers
  EXPECT_EQ(layers_of(spec_of(24, {"second_half"})), from_to(12, 23));
  EXPECT_EQ(layers_of(spec_of(24, {"interval"})), from_to(0, 22, 2));
  EXPECT_EQ(layers_of(spec_of(12, {"spread", 6})), from_to(1, 11, 2));     // Switch-Base: num_sparse_encoder_layers = 6 of 12
  EXPECT_EQ(layers_of(spec_of(12, {"spread", 3})), (Layers{1, 5, 9}));
  EXPECT_EQ(layers_of(spec_of(5, {"spread", 5})), from_to(0, 4));
  EXPECT_EQ(layers_of(spec_of(6, {"list", 0, {0, 4, 5}})), (Layers{0, 4, 5}));
}

TEST(Placement, TheTwoHalvesArePartsOfTheWhole) {
  for (int64_t n = 2; n <= 9; ++n) {
    auto both = layers_of(spec_of(n, {"first_half"}));
    const auto second = layers_of(spec_of(n, {"second_half"}));
    both.insert(both.end(), second.begin(), second.end());
    EXPECT_EQ(both, from_to(0, n - 1));
  }
}

TEST(Placement, AModelIsBuiltAndCountedAsTheRuleSays) {
  for (const PlacementSpec& where : {PlacementSpec{"last_even", 1}, {"first_half"}, {"second_half"}, {"interval"}, {"spread", 2}, {"list", 0, {1, 4}}}) {
    const ModelSpec s = spec_of(5, where);
    const LanguageModel model(s, std::nullopt);
    int64_t built = 0;
    for (const auto& p : model.parameters()) built += p.numel();
    EXPECT_EQ(count_parameters(s).total, built) << where.kind;
    const auto printed = to_json(s.resolved());
    EXPECT_EQ(to_json(read_model_spec(config_from_json(printed, "spec"), "spec").resolved()), printed) << where.kind;
    EXPECT_EQ(layers_of(read_model_spec(config_from_json(printed, "spec"), "spec")), layers_of(s)) << where.kind;
  }
}

TEST(Placement, TheWordAloneIsTheShortForm) {
  const auto spec = read_model_spec(config_from_json({{"moe", {{"where", "interval"}}}}, "spec"), "spec");
  EXPECT_EQ(spec.moe->where.kind, "interval");
}

// (N, k, f) -> (m N, m k, f / m): only the router grows.
TEST(Placement, FinerExpertsHaveAsManyParametersInTotalAndActive) {
  const auto experts = [](int64_t m) {
    ModelSpec s = testing::small_spec();
    s.moe->num_experts = 4 * m;
    s.moe->d_expert = 24 / m;
    s.moe->gate = {"top_k", {{"k", 2 * m}, {"renormalise", false}}};
    for (const auto& part : count_parameters(s).parts)
      if (part.name == "experts") return part;
    return ParameterCount::Part{};
  };
  const auto coarse = experts(1);
  EXPECT_EQ(coarse.total, 4 * 3 * 12 * 24);
  for (const int64_t m : {2, 3, 4, 6, 8, 12, 24}) {
    const auto fine = experts(m);
    EXPECT_EQ(fine.total, coarse.total) << m;
    EXPECT_EQ(fine.active, coarse.active) << m;
    EXPECT_EQ(fine.flops_per_token, coarse.flops_per_token) << m;
  }
}

TEST(Placement, WhatMakesNoSenseIsRefused) {
  const auto refused = [](const ModelSpec& s, std::initializer_list<std::string_view> words) {
    testing::expect_error(ErrorKind::config, words, [&] { (void)s.resolved(); });
  };
  refused(spec_of(6, {"last_evn", 2}), {"where = 'last_evn'", "did you mean 'last_even'?"});
  refused(spec_of(6, {"last_even"}), {"where.n = 0", "1 to num_layers = 6"});
  refused(spec_of(6, {"spread", 7}), {"where.n = 7", "num_layers = 6"});
  refused(spec_of(6, {"first_half", 2}), {"'first_half' takes no n"});
  refused(spec_of(6, {"interval", 0, {1}}), {"takes no layers"});
  refused(spec_of(6, {"list", 0, {1, 6}}), {"layers[1] = 6", "0 to 5"});
  refused(spec_of(6, {"list", 0, {2, 2}}), {"layers[1] = 2 after 2"});
  refused(spec_of(6, {"list"}), {"no layer", "where = 'list'"});
  refused(spec_of(1, {"last_even", 1}), {"no layer", "'last_even'"});
  refused(spec_of(6, {"interval"}, 2, 1), {"every = 2", "where = 'interval'"});
  ModelSpec both = spec_of(2, {"interval"});
  both.pattern.emplace_back().kind = "attention+moe";
  refused(both, {"where = 'interval'", "model.pattern"});
}

}  // namespace
}  // namespace switchyard::placement_test
