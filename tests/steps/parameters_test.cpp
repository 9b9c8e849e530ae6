#include "steps/parameters.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

ModelSpec spec_of_parameters(bool tied) {
  ModelSpec spec{.vocab_size = 11, .d_model = 8, .num_layers = 2, .num_heads = 2, .d_ff = 8, .max_positions = 8, .tie_embeddings = tied, .moe = MoESpec{}};
  spec.moe->num_experts = 2;
  spec.moe->gate = {"top_k", {{"k", 1}, {"renormalise", false}}};
  return spec;
}

const TrainedParameter& named(const std::vector<TrainedParameter>& parameters, const std::string& part) {
  const auto it = std::find_if(parameters.begin(), parameters.end(), [&](const auto& p) { return p.name.find(part) != std::string::npos; });
  EXPECT_NE(it, parameters.end()) << part;
  return *it;
}

TEST(TrainedParameters, MatricesDecayVectorsDoNot) {
  LanguageModel model(spec_of_parameters(false), 1);
  for (const TrainedParameter& p : trained_parameters(model, {})) EXPECT_EQ(p.decays, p.tensor.dim() >= 2) << p.name;
}

TEST(TrainedParameters, TheOptionsDecideAboutEmbeddingHeadAndRouters) {
  LanguageModel model(spec_of_parameters(false), 1);
  const auto parameters = trained_parameters(model, {.decay_embeddings = false, .decay_router = false});
  for (const char* part : {"embed", "head", ".gate."}) EXPECT_FALSE(named(parameters, part).decays) << part;
  EXPECT_TRUE(named(parameters, "experts").decays);
  EXPECT_TRUE(named(parameters, "o_proj").decays);
}

TEST(TrainedParameters, HoldEveryWeightOnceAlsoWhenTied) {
  for (const bool tied : {false, true}) {
    LanguageModel model(spec_of_parameters(tied), 1);
    int64_t total = 0;
    for (const TrainedParameter& p : trained_parameters(model, {})) total += p.tensor.numel();
    EXPECT_EQ(total, count_parameters(model.spec()).total) << "tied " << tied;
  }
}

TEST(GradientNorm, EqualsTheNormOfAllGradientsAsOneVector) {
  std::vector<TrainedParameter> parameters;
  double sum = 0;
  for (const int64_t n : {1, 7, 4096, 100003}) {
    auto gradient = torch::empty({n});
    RandomStream(5).at("g", static_cast<uint64_t>(n)).fill_normal(gradient.data_ptr<float>(), n);
    sum += gradient.to(torch::kFloat64).square().sum().item<double>();
    parameters.push_back({"w" + std::to_string(n), torch::zeros({n}), true});
    parameters.back().tensor.mutable_grad() = gradient;
  }
  parameters.push_back({"without gradient", torch::zeros({3}), true});
  EXPECT_NEAR(gradient_norm(parameters), std::sqrt(sum), 1e-12 * std::sqrt(sum));
}

TEST(ClipFactor, BringsLargeNormsToTheLimitAndLeavesSmallOnes) {
  EXPECT_DOUBLE_EQ(clip_factor(4, 1), 0.25);
  EXPECT_DOUBLE_EQ(clip_factor(0.5, 1), 1);
  EXPECT_DOUBLE_EQ(clip_factor(1e9, 0), 1);  // 0 = no clipping
}

}  // namespace
}  // namespace switchyard
