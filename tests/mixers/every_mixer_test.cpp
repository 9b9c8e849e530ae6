// What holds for every mixer, by name: whoever adds one is tested here.
#include "models/rotary.h"
#include "support/gate_fixture.h"
#include "switchyard/mixer.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace switchyard::every_mixer_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::normal;

struct Case {
  std::string name;
  BlockSpec mixer;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const auto& entry : mixer_registry().all()) out.push_back({entry.name, entry.name});  // with its defaults
  const auto add = [&](const char* name, const char* kind, ConfigNode::Table options) { out.push_back({name, BlockSpec(kind, options)}); };
  add("attention_biases_and_head_norm", "attention", {{"qkv_bias", true}, {"o_bias", true}, {"qk_norm", "head"}});
  add("attention_full_norm_and_clip", "attention", {{"qk_norm", "full"}, {"clip_qkv", 0.5}});
  add("attention_window_sinks_cap", "attention", {{"window", 3}, {"sinks", true}, {"logit_cap", 2.0}, {"scale", 0.7}});
  add("mla_queries_through_a_latent", "mla", {{"q_rank", 6}, {"kv_rank", 5}, {"nope_dim", 4}, {"rope_dim", 4}, {"v_dim", 3}});
  add("mla_absorbed", "mla", {{"kv_rank", 5}, {"nope_dim", 4}, {"rope_dim", 4}, {"v_dim", 3}, {"absorb", "always"}});
  add("mamba_plain", "mamba", {{"d_state", 3}, {"d_conv", 3}, {"expand", 1}, {"dt_rank", 2}, {"inner_norm", false}, {"proj_bias", true}});
  add("moa_stick_breaking", "moa", {{"num_experts", 4}, {"attention", "stick_breaking"}, {"bias", true}});
  add("cross_attention_biases", "cross_attention", {{"qkv_bias", true}, {"o_bias", true}, {"scale", 1.0}});
  add("lightning_small_blocks", "lightning", {{"block", 2}});
  return out;
}

constexpr int64_t kWidth = 16, kTokens = 7;

MixerShape shape() {
  return {.d_model = kWidth, .num_heads = 4, .num_kv_heads = 2, .head_dim = 4, .layer = 1, .num_layers = 4, .max_positions = 32, .init_std = 0.4, .init_out_std = 0.4, .seed = 5};
}

class EveryMixer : public ::testing::TestWithParam<Case> {
 protected:
  EveryMixer() : mixer(mixer_registry().make(GetParam().mixer, shape())) {
    // Nothing may hide behind ones and zeros.
    const c10::NoGradGuard no_grad;
    uint64_t seed = 100;
    for (auto& p : mixer->parameters()) p.add_(0.1 * normal(p.sizes(), ++seed));
  }

  // Texts of one batch: segments [B, S] int32, -1 = padding; positions count from the first token of each text.
  [[nodiscard]] CallContext call(const torch::Tensor& segments, const torch::Tensor& positions) {
    CallContext out;
    out.positions = positions;
    out.q_segments = out.k_segments = segments;
    if ((segments < 0).any().item<bool>()) out.valid = (segments >= 0).view({-1});
    out.sequence_ids = segments.view({-1}).to(torch::kInt64);
    ModelSpec spec;
    spec.max_positions = 32, spec.rope_theta = 100;
    out.rotary = Rotary(spec, mixer->rotary_dims()).upto(32);
    if (mixer->reads_memory()) out.memory = normal({1, 5, kWidth}, 77).expand({segments.size(0), 5, kWidth}).to(mixer->parameters().front().scalar_type());
    return out;
  }
  [[nodiscard]] CallContext plain_call(int64_t batch, int64_t first, int64_t count) {
    auto out = call(torch::zeros({batch, count}, torch::kInt32), torch::arange(first, first + count, torch::kInt64).expand({batch, count}).contiguous());
    out.q_segments = out.k_segments = torch::Tensor();
    return out;
  }
  torch::Tensor run(const torch::Tensor& x, const CallContext& context, LayerCache* cache = nullptr) {
    MixerTrace trace;
    return mixer->forward(x, context, cache, trace, {});
  }

  std::shared_ptr<Mixer> mixer;
};

void expect_near(const torch::Tensor& found, const torch::Tensor& expected, const char* what, double bound = 2e-5) {
  ASSERT_EQ(found.sizes(), expected.sizes()) << what;
  EXPECT_LT((found - expected).abs().max().item<double>(), bound * (1 + expected.abs().max().item<double>())) << what;
}

TEST_P(EveryMixer, TokenByTokenWithACacheEqualsTheWholeText) {
  const c10::NoGradGuard no_grad;
  const auto x = normal({2, kTokens, kWidth}, 1);
  const auto whole = run(x, plain_call(2, 0, kTokens));
  for (const int64_t prompt : {int64_t{1}, int64_t{3}}) {
    LayerCache cache{.state = mixer->new_state(2, kTokens)};
    std::vector<torch::Tensor> parts;
    for (int64_t first = 0; first < kTokens;) {
      const int64_t count = first == 0 ? prompt : 1;
      auto context = plain_call(2, first, count);
      context.q_segments = torch::zeros({2, count}, torch::kInt32);
      context.k_segments = torch::zeros({2, first + count}, torch::kInt32);
      parts.push_back(run(x.slice(1, first, first + count), context, &cache));
      cache.length = first += count;
    }
    expect_near(at::cat(parts, 1), whole, "cached");
  }
}

TEST_P(EveryMixer, LaterTokensChangeNothing) {
  const c10::NoGradGuard no_grad;
  auto x = normal({1, kTokens, kWidth}, 2);
  const auto before = run(x, plain_call(1, 0, kTokens)).slice(1, 0, 4).clone();
  x.slice(1, 4).fill_(3);
  expect_near(run(x, plain_call(1, 0, kTokens)).slice(1, 0, 4), before, "first tokens", 1e-6);
}

TEST_P(EveryMixer, TextsOfOneRowDoNotSeeEachOther) {
  const c10::NoGradGuard no_grad;
  const auto x = normal({1, kTokens, kWidth}, 3);
  const auto segments = torch::tensor({0, 0, 0, 1, 1, 1, 1}, torch::kInt32).view({1, -1});
  const auto packed = run(x, call(segments, torch::tensor({0, 1, 2, 0, 1, 2, 3}, torch::kInt64).view({1, -1})));
  expect_near(packed.slice(1, 0, 3), run(x.slice(1, 0, 3), plain_call(1, 0, 3)), "the first text");
  expect_near(packed.slice(1, 3), run(x.slice(1, 3), plain_call(1, 0, 4)), "the second text");
}

TEST_P(EveryMixer, PaddingOnTheLeftChangesNothing) {
  const c10::NoGradGuard no_grad;
  const auto x = normal({1, kTokens, kWidth}, 4);
  const auto segments = torch::tensor({-1, -1, 0, 0, 0, 0, 0}, torch::kInt32).view({1, -1});
  const auto context = call(segments, torch::tensor({0, 0, 0, 1, 2, 3, 4}, torch::kInt64).view({1, -1}));
  const auto alone = run(x.slice(1, 2), plain_call(1, 0, 5));
  expect_near(run(x, context).slice(1, 2), alone, "without a cache");
  LayerCache cache{.state = mixer->new_state(1, kTokens)};
  expect_near(run(x, context, &cache).slice(1, 2), alone, "with a cache");
}

TEST_P(EveryMixer, GradientsEqualFiniteDifferences) {
  mixer->to(torch::kFloat64);
  const auto x = normal({1, 4, kWidth}, 5).to(torch::kFloat64).requires_grad_();
  const auto direction = normal({1, 4, kWidth}, 6).to(torch::kFloat64);
  auto context = plain_call(1, 0, 4);
  if (context.rotary.cos.defined()) context.rotary = {context.rotary.cos.to(torch::kFloat64), context.rotary.sin.to(torch::kFloat64)};
  const auto loss = [&] { return (run(x, context) * direction).sum(); };
  std::vector<std::pair<std::string, torch::Tensor>> leaves{{"x", x}};
  for (const auto& item : mixer->named_parameters()) leaves.emplace_back(item.key(), item.value());
  loss().backward();
  uint64_t seed = 50;
  for (auto& [name, leaf] : leaves) {
    ASSERT_TRUE(leaf.grad().defined()) << name;
    const auto step = normal(leaf.sizes(), ++seed).to(torch::kFloat64);
    const c10::NoGradGuard no_grad;
    constexpr double kStep = 1e-6;
    leaf.add_(kStep * step);
    const double up = loss().item<double>();
    leaf.sub_(2 * kStep * step);
    const double down = loss().item<double>();
    leaf.add_(kStep * step);
    const double expected = (up - down) / (2 * kStep), found = (leaf.grad() * step).sum().item<double>();
    EXPECT_NEAR(found, expected, 1e-5 * (1 + std::abs(expected))) << name;
  }
}

TEST_P(EveryMixer, SizesAreKnownWithoutStorageAndWeightsFollowTheSeed) {
  MixerShape empty = shape();
  empty.sizes_only = true;
  const auto sizes = mixer_registry().make(GetParam().mixer, empty);
  EXPECT_EQ(sizes->num_parameters(), mixer->num_parameters());
  EXPECT_EQ(sizes->active_parameters(), mixer->active_parameters());
  EXPECT_LE(mixer->active_parameters(), mixer->num_parameters());
  EXPECT_GE(mixer->flops_per_token(8), 2.0 * 0.5 * static_cast<double>(mixer->active_parameters()));
  EXPECT_GE(mixer->flops_per_token(16), mixer->flops_per_token(8));
  const auto again = mixer_registry().make(GetParam().mixer, shape()), other = mixer_registry().make(GetParam().mixer, shape());
  for (const auto& item : again->named_parameters()) EXPECT_TRUE(torch::equal(item.value(), other->named_parameters()[item.key()])) << item.key();
}

INSTANTIATE_TEST_SUITE_P(All, EveryMixer, ::testing::ValuesIn(cases()), [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace switchyard::every_mixer_test
