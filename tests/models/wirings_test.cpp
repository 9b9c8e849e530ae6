// How mixers, dense networks and experts of a layer are wired, and models whose routers stand in the mixers.
#include "expect_error.h"
#include "models/mixer_of.h"
#include "models/norm.h"
#include "models/small_specs.h"
#include "switchyard/language_model.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

namespace switchyard::wirings_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::expect_error;
using testing::small_spec;

const torch::Tensor& ids() {
  static const auto out = (torch::arange(20, torch::kInt64) * 7 % 19).view({2, 10});
  return out;
}

ModelTrace traced(LanguageModel& model) {
  const c10::NoGradGuard no_grad;
  model.eval();
  ModelTrace trace;
  ForwardOptions options;
  options.trace = &trace;
  (void)model.forward({.input_ids = ids(), .positions = {}, .segments = {}}, options);
  return trace;
}

void disturb(LanguageModel& model, const std::string& start) {
  const c10::NoGradGuard no_grad;
  bool found = false;
  for (const auto& item : model.named_parameters())
    if (item.key().starts_with(start)) {
      item.value().add_(0.3);
      found = true;
    }
  ASSERT_TRUE(found) << start;
}

ModelSpec hybrid(const std::string& input, std::vector<std::string> kinds = {"attention+dense+moe"}) {
  ModelSpec s = small_spec();
  s.moe->every = 1, s.moe->offset = 0;
  s.moe->input = input;
  for (auto& kind : kinds) s.pattern.emplace_back(), s.pattern.back().kind = kind;
  s.num_layers = 2;
  return s;
}

// Neither attention nor dense network of the layer is waited for: what they do does not reach the experts, bit by bit.
TEST(ArcticHybrid, ExpertsDoNotWaitForAttentionAndDenseNetwork) {
  for (const std::string input : {"layer", "stream"}) {
    LanguageModel model(hybrid(input));
    const auto before = traced(model);
    disturb(model, "layers.0.attn.");
    disturb(model, "layers.0.dense.");
    const auto after = traced(model);
    EXPECT_EQ(torch::equal(before.moe_output.at(0), after.moe_output.at(0)), input == "layer");
    EXPECT_FALSE(torch::equal(before.hidden_states[1], after.hidden_states[1]));
  }
}

// out = a + MLP(n_res(a)) + MoE(n2(x)), a = x + attention(n1(x)).
TEST(ArcticHybrid, TheLayerIsTheSumOfItsThreeBranches) {
  const c10::NoGradGuard no_grad;
  const ModelSpec spec = hybrid("layer");
  LanguageModel model(spec);
  const auto trace = traced(model);
  const auto x = trace.hidden_states[0];
  const auto p = model.named_parameters();
  const auto norm = [&](const torch::Tensor& t, const char* name) { return t / at::sqrt(t.square().mean(-1, true) + spec.norm_eps) * p[name]; };
  EXPECT_LT((trace.moe_input.at(0) - norm(x, "layers.0.ffn_norm")).abs().max().item<double>(), 1e-5);
  // The same weights without experts give a + MLP(n_res(a)).
  ModelSpec without = spec;
  without.moe.reset();
  without.pattern[0].kind = "attention+dense";
  LanguageModel plain(without);
  for (const auto& item : plain.named_parameters()) {
    std::string name = item.key();
    for (const auto& [from, to] : {std::pair{".ffn.", ".dense."}, {".ffn_norm", ".dense_norm"}})
      if (const auto at = name.find(from); at != std::string::npos) name.replace(at, std::string(from).size(), to);
    item.value().copy_(p[name]);
  }
  const auto dense = traced(plain).hidden_states[1];
  EXPECT_LT((trace.hidden_states[1] - (dense + trace.moe_output.at(0))).abs().max().item<double>(), 1e-5);
}

std::vector<std::string> pair() { return {"attention+dense", "attention+dense+moe"}; }

TEST(ShortcutExperts, ReadTheStreamOfTheLayerBefore) {
  for (const std::string input : {"previous_mixer", "previous_layer", "layer", "stream"}) {
    LanguageModel model(hybrid(input, pair()));
    const auto before = traced(model);
    const auto unchanged = [&](const char* what) {
      LanguageModel other(hybrid(input, pair()));
      disturb(other, what);
      return torch::equal(traced(other).moe_output.at(1), before.moe_output.at(1));
    };
    const int place = input == "previous_layer" ? 0 : input == "previous_mixer" ? 1 : input == "layer" ? 2 : 3;
    EXPECT_EQ(unchanged("layers.0.attn."), place < 1) << input;
    EXPECT_EQ(unchanged("layers.0.ffn."), place < 2) << input;
    EXPECT_EQ(unchanged("layers.1.attn."), place < 3) << input;
    EXPECT_EQ(unchanged("layers.1.dense."), place < 3) << input;
  }
}

TEST(ShortcutExperts, WithoutWhatTheyAddTheLayerIsAnOrdinaryOne) {
  const c10::NoGradGuard no_grad;
  LanguageModel model(hybrid("previous_mixer", pair()));
  model.named_parameters()["layers.1.ffn.experts.w_out"].zero_();
  ModelSpec plain_spec = hybrid("stream", {"attention+dense", "attention+dense"});
  plain_spec.moe.reset();
  LanguageModel plain(plain_spec);
  const auto p = model.named_parameters();
  for (const auto& item : plain.named_parameters()) {
    std::string name = item.key();
    if (name.starts_with("layers.1."))
      for (const auto& [from, to] : {std::pair{".ffn.", ".dense."}, {".ffn_norm", ".dense_norm"}})
        if (const auto at = name.find(from); at != std::string::npos) name.replace(at, std::string(from).size(), to);
    item.value().copy_(p[name]);
  }
  EXPECT_TRUE(torch::equal(traced(model).last_layer_output, traced(plain).last_layer_output));
}

TEST(ShortcutExperts, NeedALayerBeforeAndNoActivationCheckpointing) {
  expect_error(ErrorKind::config, {"previous_mixer", "first layer"}, [] { (void)hybrid("previous_mixer").resolved(); });
  LanguageModel model(hybrid("previous_mixer", pair()));
  ForwardOptions options;
  options.checkpoint_activations = true;
  expect_error(ErrorKind::config, {"activation checkpointing", "previous_mixer"}, [&] { (void)model.forward({.input_ids = ids(), .positions = {}, .segments = {}}, options); });
}

TEST(ShortcutExperts, CachedTextEqualsTheWholeOne) {
  const c10::NoGradGuard no_grad;
  LanguageModel model(hybrid("previous_mixer", pair()));
  const auto whole = traced(model).hidden_states.back();
  KvCache cache(model.spec(), 2, 10);
  std::vector<torch::Tensor> parts;
  ForwardOptions options;
  options.cache = &cache;
  for (int64_t t = 0; t < 10; ++t) parts.push_back(model.forward({.input_ids = ids().slice(1, t, t + 1), .positions = {}, .segments = {}}, options).hidden);
  EXPECT_LT((at::cat(parts, 1) - whole).abs().max().item<double>(), 1e-5);
}

ModelSpec attention_experts(BlockSpec gate, const char* attention = "softmax", int64_t experts = 4) {
  ModelSpec s = small_spec();
  s.moe.reset();
  s.mixer = {"moa", ConfigNode{{"num_experts", experts}, {"attention", attention}, {"gate", ConfigNode{{"kind", gate.kind}}}}};
  *s.mixer.options.find("gate") = write_any(gate);
  s.losses = {{"load_balance", {{"weight", 0.5}}}};
  return s;
}

TEST(ModuleFormer, ModulesThatNobodyChoseCanGo) {
  const c10::NoGradGuard no_grad;
  LanguageModel model(attention_experts({"chain", ConfigNode{{"select", ConfigNode{{"kind", "top_k"}, {"k", 1}}}, {"weigh", "raw"}}}, "stick_breaking", 32));
  auto trace = traced(model);
  const auto before = trace.hidden_states.back();
  int64_t pruned = 0;
  for (int64_t layer = 0; layer < 2; ++layer) {
    const auto used = at::bincount(std::get<TokenChoice>(trace.mixer.at(layer).routing.choice).expert_ids.view({-1}), {}, 32);
    for (int64_t e = 0; e < 32; ++e) {
      if (used[e].item<int64_t>() > 0) continue;
      for (const char* matrix : {"q_proj", "o_proj"}) model.named_parameters()[fmt::format("layers.{}.attn.{}", layer, matrix)][e].fill_(NAN);
      ++pruned;
    }
  }
  ASSERT_GE(pruned, 24) << "20 tokens choose one of 32 modules each";
  EXPECT_TRUE(torch::equal(traced(model).hidden_states.back(), before));
}

TEST(ModelLosses, GoOverTheRoutersOfMixers) {
  LanguageModel model(attention_experts("top_k"));
  const auto out = model.forward({.input_ids = ids(), .positions = {}, .segments = {}});
  ASSERT_EQ(out.mixer_stats.size(), 2u);
  const auto loss = model.aux_loss(out);
  ASSERT_EQ(loss.values.size(), 1u);
  double expected = 0;  // E sum f P per layer, f divided by k
  for (const auto& s : out.mixer_stats) expected += 0.5 * 4 * (s.counts / s.counts.sum() * s.scores.probs.mean(0)).sum().item<double>();
  EXPECT_NEAR(loss.total.item<double>(), expected, 1e-5);
  loss.total.backward();
  EXPECT_GT(model.named_parameters()["layers.0.attn.gate.score.weight"].grad().abs().max().item<double>(), 0);
}

// All experts in training and all of them in use: the same bits. Fewer in use come nearer the more there are.
TEST(DsMoe, AllExpertsInUseEqualTrainingAndMoreComeNearer) {
  const c10::NoGradGuard no_grad;
  const auto outputs = [&](int64_t k, bool training) {
    const BlockSpec gate = {"chain", ConfigNode{{"select", ConfigNode{{"kind", "dense_to_sparse"}, {"threshold", 0.0}, {"k", k}}}, {"weigh", "raw"}}};
    ModelSpec s = attention_experts(gate);
    s.losses.clear();
    s.moe = small_spec().moe;
    s.moe->every = 1, s.moe->offset = 0, s.moe->gate = gate;
    LanguageModel model(s);
    model.train(training);
    return model.forward({.input_ids = ids(), .positions = {}, .segments = {}}).hidden;
  };
  const auto all = outputs(4, true);
  EXPECT_TRUE(torch::equal(outputs(4, false), all));
  double last = 1e9;
  for (const int64_t k : {1, 2, 3}) {
    const double error = (outputs(k, false) - all).norm().item<double>();
    EXPECT_LT(error, last) << k;
    last = error;
  }
}

TEST(JambaRecipe, OnlyAttentionKeepsKeysAndValues) {
  ModelSpec s = small_spec();
  s.moe->every = 1, s.moe->offset = 0;
  s.positions = "none";
  s.num_layers = 8;
  for (int64_t i = 0; i < 8; ++i) s.pattern.emplace_back(), s.pattern.back().kind = std::string(i == 4 ? "attention" : "mamba") + (i % 2 ? "+moe" : "+dense");
  const KvCache cache(s, 1, 1000);
  int64_t grows = 0;
  for (const auto& state : cache.states)
    for (const auto& tensor : state) grows += tensor.size(1) == 1000 ? 1 : 0;
  EXPECT_EQ(grows, 2) << "keys and values of one layer";
}

TEST(Norms, EqualTheirFormulas) {
  const auto x = torch::tensor({1.0f, 2.0f, 3.0f, 4.0f}).view({1, 4});
  ModelSpec s = small_spec();
  s.d_model = 4, s.norm_eps = 1e-6;
  const auto with = [&](const char* kind) {
    s.norm = kind;
    torch::nn::Module owner;
    Norm norm(owner, "n", s);
    const c10::NoGradGuard no_grad;
    if (norm.bias.defined()) norm.bias.fill_(0.5);
    return norm(x).view({-1});
  };
  EXPECT_LT((with("rms") - torch::tensor({0.365148f, 0.730297f, 1.095445f, 1.460593f})).abs().max().item<double>(), 1e-5);
  const auto centred = torch::tensor({-1.341641f, -0.447214f, 0.447214f, 1.341641f});
  EXPECT_LT((with("layer_no_bias") - centred).abs().max().item<double>(), 1e-5);
  EXPECT_LT((with("layer") - (centred + 0.5)).abs().max().item<double>(), 1e-5);
}

// What the model adds, scales and norms, written out for one dense layer.
TEST(ResidualStream, ScalesSandwichNormsAndNormedSumsEqualTheirFormulas) {
  const c10::NoGradGuard no_grad;
  for (const std::string residual : {"stream", "norm"})
    for (const bool sandwich : {false, true}) {
      ModelSpec s = small_spec();
      s.moe.reset();
      s.num_layers = 1;
      s.residual = residual, s.sandwich_norm = sandwich;
      s.residual_scale = 0.3, s.stream_scale = 1.7, s.embed_scale = 2, s.logit_scale = 0.5, s.head_bias = true;
      s.pattern.emplace_back(), s.pattern[0].kind = "dense";
      LanguageModel model(s);
      auto p = model.named_parameters();
      p["head_bias"].fill_(0.25);
      for (const auto& item : p)
        if (item.key().find("norm") != std::string::npos) item.value().mul_(1.5);
      model.eval();
      const auto norm = [&](const torch::Tensor& t, const char* name) { return t / at::sqrt(t.square().mean(-1, true) + s.norm_eps) * p[name]; };
      const auto x = 2 * at::embedding(p["embed"], ids());
      const auto in = norm(x, "layers.0.ffn_norm");
      const auto gu = at::matmul(in, p["layers.0.ffn.w_in"][0].t());
      auto branch = at::matmul(at::silu(gu.slice(-1, 0, 10)) * gu.slice(-1, 10), p["layers.0.ffn.w_out"][0].t());
      if (sandwich) branch = norm(branch, "layers.0.ffn_post_norm");
      const auto y = 1.7 * (residual == "norm" ? in : x) + 0.3 * branch;
      const auto logits = 0.5 * at::matmul(norm(y, "norm"), p["head"].t()) + 0.25;
      const auto found = model.logits(model.forward({.input_ids = ids(), .positions = {}, .segments = {}}).hidden);
      EXPECT_LT((found - logits).abs().max().item<double>(), 1e-5) << residual << sandwich;
    }
}

// A layer's own factors, of the mixer and of networks: out = a in + b branch, where in + branch is what factors of 1 give.
TEST(ResidualStream, LayersHaveFactorsOfTheirOwn) {
  const c10::NoGradGuard no_grad;
  for (const std::string kind : {"attention", "dense", "moe"}) {
    ModelSpec s = small_spec();
    s.num_layers = 1, s.stream_scale = 3, s.moe->every = 1, s.moe->offset = 0;
    if (kind != "moe") s.moe.reset();
    s.pattern.emplace_back(), s.pattern[0].kind = kind;
    const auto output = [&](double stream, double branch) {
      ModelSpec with = s;
      (kind == "attention" ? with.pattern[0].mixer_sum : with.pattern[0].network_sum) = SumSpec{stream, branch};
      LanguageModel model(with);
      model.eval();
      ModelTrace trace;
      ForwardOptions options;
      options.trace = &trace;
      (void)model.forward({.input_ids = ids(), .positions = {}, .segments = {}}, options);
      return std::pair(trace.hidden_states[0], trace.last_layer_output);
    };
    const auto [x, plain] = output(1, 1);
    const auto branch = plain - x;
    EXPECT_GT(branch.abs().max().item<double>(), 1e-4) << kind;
    EXPECT_LT((output(1.7, 0.3).second - (1.7 * x + 0.3 * branch)).abs().max().item<double>(), 1e-6) << kind;
    EXPECT_LT((output(0, 0.3).second - (3 * x + 0.3 * branch)).abs().max().item<double>(), 1e-6) << kind << ": 0 is the model's";
  }
}

TEST(ResidualStream, FactorsOfALayerAreCheckedAndTheModelsOwnAreNotRepeated) {
  ModelSpec s = small_spec();
  s.num_layers = 1, s.stream_scale = 3, s.moe.reset();
  s.pattern.emplace_back(), s.pattern[0].kind = "dense";
  s.pattern[0].network_sum = SumSpec{3, 1};
  EXPECT_FALSE(s.resolved().pattern[0].network_sum);
  s.pattern[0].network_sum = SumSpec{-1, 1};
  expect_error(ErrorKind::config, {"pattern[0].network_sum.stream_scale = -1"}, [&] { (void)s.resolved(); });
  s.pattern[0].network_sum.reset();
  s.pattern[0].mixer_sum = SumSpec{2, 1};
  expect_error(ErrorKind::config, {"pattern[0] = 'dense'", "mixer_sum"}, [&] { (void)s.resolved(); });
}

TEST(Positions, LearnedOnesAreAddedAndTheirPlacesAreThoseOfTheCall) {
  const c10::NoGradGuard no_grad;
  ModelSpec s = small_spec();
  s.positions = "learned";
  LanguageModel model(s);
  const auto shifted = torch::arange(3, 13, torch::kInt64).expand({2, 10}).contiguous();
  ModelTrace trace;
  ForwardOptions options;
  options.trace = &trace;
  (void)model.forward({.input_ids = ids(), .positions = shifted, .segments = {}}, options);
  const auto p = model.named_parameters();
  EXPECT_TRUE(torch::equal(trace.hidden_states[0], at::embedding(p["embed"], ids()) + p["position_embed"].slice(0, 3, 13)));
}

}  // namespace
}  // namespace switchyard::wirings_test
