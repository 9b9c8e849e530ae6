// Each mixer against its formula, written out as loops in double precision.
#include "core/ops.h"
#include "core/rotate_heads.h"
#include "models/rotary.h"
#include "support/gate_fixture.h"
#include "switchyard/gate.h"
#include "switchyard/mixer.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

namespace switchyard::mixer_forms_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::normal;

torch::Tensor as_double(const torch::Tensor& t) { return t.detach().to(torch::kFloat64); }

// One head, one text: scores [S, S] -> output of the weights that `weight` makes of them.
torch::Tensor by_hand(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, const ops::AttentionOptions& o, int64_t head) {
  const int64_t seq = q.size(0), width = v.size(1);
  auto out = torch::zeros({seq, width}, torch::kFloat64);
  for (int64_t i = 0; i < seq; ++i) {
    std::vector<double> score;
    for (int64_t j = 0; j <= i; ++j) {
      double s = (q[i] * k[j]).sum().item<double>() * o.scale;
      if (o.logit_cap > 0) s = o.logit_cap * std::tanh(s / o.logit_cap);
      if (o.bias.defined()) s += o.bias[0][head][i][j].item<double>();
      score.push_back(o.window > 0 && i - j >= o.window ? -INFINITY : s);
    }
    std::vector<double> weight(score.size());
    if (o.stick_breaking) {
      double left = 1;
      for (int64_t j = i; j >= 0; --j) {
        const double beta = 1 / (1 + std::exp(-score[static_cast<size_t>(j)]));
        weight[static_cast<size_t>(j)] = beta * left;
        left *= 1 - beta;
      }
    } else {
      double sum = o.sinks.defined() ? std::exp(o.sinks[head].item<double>()) : 0;
      for (const double s : score) sum += std::exp(s);
      for (size_t j = 0; j < score.size(); ++j) weight[j] = std::exp(score[j]) / sum;
    }
    for (int64_t j = 0; j <= i; ++j) out[i] += weight[static_cast<size_t>(j)] * v[j];
  }
  return out;
}

TEST(AttentionOptions, WindowCapSinksBiasAndSticksEqualTheirFormulas) {
  const auto q = normal({1, 9, 4, 6}, 1), k = normal({1, 9, 2, 6}, 2), v = normal({1, 9, 2, 5}, 3);
  const auto sinks = normal({4}, 4), bias = normal({1, 4, 9, 9}, 5);
  const std::vector<std::pair<const char*, ops::AttentionOptions>> all = {
      {"window", {.scale = 0.4, .window = 3, .sinks = {}, .bias = {}}},       {"cap", {.scale = 2.0, .logit_cap = 1.5, .sinks = {}, .bias = {}}},
      {"sinks", {.scale = 0.4, .sinks = sinks, .bias = {}}},                  {"bias", {.scale = 0.4, .sinks = {}, .bias = bias}},
      {"window and sinks", {.scale = 0.4, .window = 2, .sinks = sinks, .bias = {}}}, {"sticks", {.scale = 0.4, .sinks = {}, .bias = {}, .stick_breaking = true}},
      {"narrow values on the kernel", {.scale = 0.4, .sinks = {}, .bias = {}}}};
  for (const auto& [name, options] : all) {
    const auto out = ops::attention(q, k, v, {}, {}, options);
    for (int64_t h = 0; h < 4; ++h) {
      const auto expected = by_hand(as_double(q[0].select(1, h)), as_double(k[0].select(1, h / 2)), as_double(v[0].select(1, h / 2)), options, h);
      EXPECT_LT((as_double(out[0].select(1, h)) - expected).abs().max().item<double>(), 1e-5) << name << ", head " << h;
    }
  }
}

// beta = .2 .5 .1 .7, the last one of the nearest key: weights .027 .135 .03 .7, which sum to .892.
TEST(StickBreaking, WorkedExample) {
  const auto beta = torch::tensor({0.2, 0.5, 0.1, 0.7}, torch::kFloat64);
  const auto k = at::log(beta / (1 - beta)).view({1, 4, 1, 1}), q = torch::ones({1, 4, 1, 1}, torch::kFloat64);
  const auto v = torch::eye(4, torch::kFloat64).view({1, 4, 1, 4});
  const auto w = ops::attention(q, k, v, {}, {}, {.scale = 1, .sinks = {}, .bias = {}, .stick_breaking = true})[0][3][0];
  const auto expected = torch::tensor({0.027, 0.135, 0.03, 0.7}, torch::kFloat64);
  EXPECT_LT((w - expected).abs().max().item<double>(), 1e-12);
  EXPECT_NEAR(w.sum().item<double>(), 0.892, 1e-12);
}

MixerShape shape(int64_t kv_heads = 2) {
  return {.d_model = 12, .num_heads = 4, .num_kv_heads = kv_heads, .head_dim = 4, .layer = 1, .num_layers = 4, .max_positions = 16, .init_std = 0.5, .init_out_std = 0.5, .seed = 3};
}
CallContext plain_call(int64_t seq, int64_t rotary_dims = 0) {
  CallContext call;
  call.positions = torch::arange(seq, torch::kInt64).view({1, -1});
  ModelSpec spec;
  spec.max_positions = 16;
  call.rotary = Rotary(spec, rotary_dims).upto(16);
  return call;
}
torch::Tensor run(Mixer& mixer, const torch::Tensor& x, const CallContext& call) {
  MixerTrace trace;
  return mixer.forward(x, call, nullptr, trace, {});
}

TEST(LatentAttention, AbsorbedEqualsPlain) {
  const c10::NoGradGuard no_grad;
  const auto x = normal({1, 8, 12}, 1);
  torch::Tensor out[2];
  for (const bool absorbed : {false, true}) {
    const auto mixer = mixer_registry().make({"mla", {{"q_rank", 7}, {"kv_rank", 6}, {"nope_dim", 5}, {"rope_dim", 4}, {"v_dim", 3}, {"absorb", absorbed ? "always" : "never"}}}, shape());
    out[absorbed] = run(*mixer, x, plain_call(8, 4));
  }
  EXPECT_LT((out[0] - out[1]).abs().max().item<double>(), 1e-4 * out[0].abs().max().item<double>());
}

TEST(LatentAttention, TheCacheHoldsTheLatentVectorAndOneRotaryKey) {
  const auto mixer = mixer_registry().make({"mla", {{"kv_rank", 512}, {"nope_dim", 128}, {"rope_dim", 64}, {"v_dim", 128}}}, [] {
    MixerShape s;
    s.d_model = 256, s.num_heads = 16, s.head_dim = 64, s.sizes_only = true;
    return s;
  }());
  int64_t numbers = 0;
  for (const auto& t : mixer->new_state(1, 10)) numbers += t.numel();
  EXPECT_EQ(numbers, 10 * 576);
}

// d(softmax) aside, head h of layer 1 of 4 forgets by exp(-s_h) per token.
TEST(Lightning, EqualsItsDefinition) {
  const c10::NoGradGuard no_grad;
  const double eps = 0.5;  // its own; the model's is 1e-5
  const auto mixer = mixer_registry().make({"lightning", {{"norm_eps", eps}}}, shape());
  const auto x = normal({1, 6, 12}, 1);
  const auto p = mixer->named_parameters();
  const auto qkv = at::silu(at::matmul(as_double(x[0]), as_double(p["qkv_proj"]).t()));  // [S, H * 3c]
  auto o = torch::zeros({6, 16}, torch::kFloat64);
  for (int64_t h = 0; h < 4; ++h) {
    const auto part = [&](int64_t which) { return qkv.slice(1, (3 * h + which) * 4, (3 * h + which + 1) * 4); };
    const double s = std::pow(2.0, -8.0 * static_cast<double>(h + 1) / 4) * (1 - 1 / (3 + 1e-5) + 1e-5);
    for (int64_t i = 0; i < 6; ++i)
      for (int64_t j = 0; j <= i; ++j)
        o[i].slice(0, 4 * h, 4 * h + 4) += std::exp(-s * static_cast<double>(i - j)) * (part(0)[i] * part(1)[j]).sum() * part(2)[j];
  }
  const auto normed = o / at::sqrt(o.square().mean(-1, true) + eps) * as_double(p["norm"]);
  const auto y = at::matmul(normed * at::sigmoid(at::matmul(as_double(x[0]), as_double(p["output_gate"]).t())), as_double(p["out_proj"]).t());
  EXPECT_LT((as_double(run(*mixer, x, plain_call(6))[0]) - y).abs().max().item<double>(), 1e-5);
}

// Token by token: the filter, its norm, and what comes of queries and keys of it and of values of the input.
TEST(LocalizedFilterAttention, EqualsItsDefinition) {
  const c10::NoGradGuard no_grad;
  auto unturned = shape();
  unturned.rotary = false;
  const auto mixer = mixer_registry().make("lf_attention", unturned);
  for (const char* bias : {"conv1_bias", "conv2_bias"}) mixer->named_parameters()[bias].copy_(normal(mixer->named_parameters()[bias].sizes(), 8));
  const auto input = normal({1, 6, 12}, 1);
  const auto p = [&](const char* name) { return as_double(mixer->named_parameters()[name]); };
  const auto convolved = [&](const torch::Tensor& x, const torch::Tensor& w, const torch::Tensor& bias) {
    std::vector<torch::Tensor> rows;
    for (int64_t t = 0; t < x.size(0); ++t) {
      auto row = at::mv(w[1], x[t]) + bias;
      if (t > 0) row = row + at::mv(w[0], x[t - 1]);
      rows.push_back(row);
    }
    return at::stack(rows);
  };
  const auto x = as_double(input[0]);
  const auto sum = x + convolved(convolved(x, p("conv1"), p("conv1_bias")), p("conv2"), p("conv2_bias"));
  const auto f = sum / at::sqrt(sum.square().mean(-1, true) + 1e-5);
  const auto head = [](const torch::Tensor& t, int64_t h) { return t.slice(1, 4 * h, 4 * h + 4); };
  const auto q = at::matmul(f, p("q_proj").t()), k = at::matmul(f, p("k_proj").t()), v = at::matmul(x, p("v_proj").t());
  std::vector<torch::Tensor> heads;
  for (int64_t h = 0; h < 4; ++h) heads.push_back(by_hand(head(q, h), head(k, h / 2), head(v, h / 2), {.scale = 0.5, .sinks = {}, .bias = {}}, h));
  const auto y = at::matmul(at::cat(heads, 1), p("o_proj").t());
  EXPECT_LT((as_double(run(*mixer, input, plain_call(6))[0]) - y).abs().max().item<double>(), 1e-5 * y.abs().max().item<double>());
}

// Token by token, expert by expert.
TEST(MixtureOfAttentionHeads, EqualsALoopOverTokensAndExperts) {
  const c10::NoGradGuard no_grad;
  const auto mixer = mixer_registry().make({"moa", {{"num_experts", 5}, {"gate", ConfigNode{{"kind", "top_k"}, {"k", 2}}}, {"bias", true}}}, shape());
  const auto x = normal({1, 6, 12}, 1);
  const auto p = mixer->named_parameters();
  const auto x64 = as_double(x[0]);
  const auto kv = at::matmul(x64, as_double(p["kv_proj"]).t());
  const auto logits = at::matmul(x64, as_double(p["gate.score.weight"]).t());
  const auto [best, chosen] = logits.topk(2, -1);
  const auto weight = at::softmax(best, -1);
  auto y = torch::zeros({6, 12}, torch::kFloat64);
  for (int64_t t = 0; t < 6; ++t)
    for (int64_t slot = 0; slot < 2; ++slot) {
      const int64_t e = chosen[t][slot].item<int64_t>();
      const auto q = at::matmul(as_double(p["q_proj"])[e], x64[t]);  // [G * c]
      std::vector<torch::Tensor> heads;
      for (int64_t g = 0; g < 2; ++g) {
        const auto key = kv.slice(1, 4 * g, 4 * g + 4).slice(0, 0, t + 1), value = kv.slice(1, 8 + 4 * g, 12 + 4 * g).slice(0, 0, t + 1);
        heads.push_back(at::matmul(at::softmax(at::matmul(key, q.slice(0, 4 * g, 4 * g + 4)) / 2, 0), value));
      }
      y[t] += weight[t][slot] * at::matmul(as_double(p["o_proj"])[e], at::cat(heads));
    }
  EXPECT_LT((as_double(run(*mixer, x, plain_call(6))[0]) - (y + as_double(p["bias"]))).abs().max().item<double>(), 1e-5);
}

TEST(MixtureOfAttentionHeads, TheCacheDoesNotGrowWithExperts) {
  for (const int64_t experts : {2, 64}) {
    const auto mixer = mixer_registry().make({"moa", {{"num_experts", experts}}}, shape());
    const auto state = mixer->new_state(1, 10);
    EXPECT_EQ(state[0].numel() + state[1].numel(), 2 * 10 * 2 * 4);
  }
}

// One expert with the weight 1: multi-head attention whose heads all have their key and value head.
TEST(MixtureOfAttentionHeads, OneExpertIsAttention) {
  const c10::NoGradGuard no_grad;
  const auto mixer = mixer_registry().make({"moa", {{"num_experts", 1}, {"gate", "dense"}}}, shape());
  MixerShape plain = shape();
  plain.num_heads = 2;
  const auto attention = mixer_registry().make("attention", plain);
  const auto p = mixer->named_parameters();
  auto a = attention->named_parameters();
  a["q_proj"].copy_(p["q_proj"][0]), a["o_proj"].copy_(p["o_proj"][0]);
  a["k_proj"].copy_(p["kv_proj"].slice(0, 0, 8)), a["v_proj"].copy_(p["kv_proj"].slice(0, 8));
  const auto x = normal({1, 5, 12}, 2);
  const auto call = plain_call(5, 4);
  EXPECT_LT((run(*mixer, x, call) - run(*attention, x, call)).abs().max().item<double>(), 1e-5);
}

TEST(SelectiveScan, KernelEqualsStepsForwardAndBackward) {
  const auto make = [](torch::IntArrayRef sizes, uint64_t seed) { return normal(sizes, seed); };
  const auto u = make({2, 9, 20}, 1), delta = at::softplus(make({2, 9, 20}, 2)), a = -at::exp(make({20, 3}, 3)), b = make({2, 9, 3}, 4), c = make({2, 9, 3}, 5), d = make({20}, 6);
  auto reset = torch::zeros({2, 9}, torch::kBool);
  reset[0][4] = true, reset[1][1] = true;
  const auto direction = make({2, 9, 20}, 7);
  for (const bool resets : {false, true}) {
    std::vector<torch::Tensor> grads[2];
    torch::Tensor y[2];
    for (const int path : {0, 1}) {  // float32 on the kernel, float64 step by step
      std::vector<torch::Tensor> in;
      for (const auto& t : {u, delta, a, b, c, d}) in.push_back((path == 0 ? t.clone() : as_double(t)).requires_grad_());
      y[path] = ops::selective_scan(in[0], in[1], in[2], in[3], in[4], in[5], resets ? reset : torch::Tensor());
      (y[path] * direction.to(y[path].scalar_type())).sum().backward();
      for (const auto& t : in) grads[path].push_back(as_double(t.grad()));
    }
    EXPECT_LT((as_double(y[0]) - as_double(y[1])).abs().max().item<double>(), 1e-4);
    for (size_t i = 0; i < 6; ++i) EXPECT_LT((grads[0][i] - grads[1][i]).abs().max().item<double>(), 1e-3 * (1 + grads[1][i].abs().max().item<double>())) << i;
  }
}

TEST(Rotary, WorkedExamplesOfBothLayouts) {
  const auto q = torch::tensor({1.0f, 2.0f, 3.0f, 4.0f}).view({1, 1, 1, 4});
  CallContext call;
  call.positions = torch::full({1, 1}, 3, torch::kInt64);
  ModelSpec spec;
  call.rotary = Rotary(spec, 4).upto(8);
  const auto halves = rotate_heads(q, call, 0, 4, false).view({-1}), pairs = rotate_heads(q, call, 0, 4, true).view({-1});
  EXPECT_LT((halves - torch::tensor({-1.413353f, 1.879118f, -2.828857f, 4.058191f})).abs().max().item<double>(), 1e-5);
  EXPECT_LT((pairs - torch::tensor({-1.272233f, 2.878668f, -1.838865f, 4.088187f})).abs().max().item<double>(), 1e-5) << "first halves of the pairs, then the second ones";
}

TEST(Rotary, ScoresDependOnTheDistanceAlone) {
  const auto q = normal({1, 1, 1, 8}, 1), k = normal({1, 1, 1, 8}, 2);
  for (const bool adjacent : {false, true}) {
    const auto score = [&](int64_t m, int64_t n) {
      CallContext call;
      ModelSpec spec;
      call.rotary = Rotary(spec, 6).upto(64);
      const auto turned = [&](const torch::Tensor& t, int64_t position) {
        call.positions = torch::full({1, 1}, position, torch::kInt64);
        return rotate_heads(t, call, 2, 6, adjacent);
      };
      return (turned(q, m) * turned(k, n)).sum().item<double>();
    };
    EXPECT_NEAR(score(9, 4), score(25, 20), 1e-5);
    EXPECT_GT(std::abs(score(9, 4) - score(9, 5)), 1e-3);
  }
}

TEST(Rotary, ScaledFrequenciesEqualTheirFormulas) {
  ModelSpec spec;
  spec.max_positions = 64, spec.rope_theta = 10000;
  const auto plain = [](int64_t i) { return std::pow(10000.0, -2.0 * static_cast<double>(i) / 8); };
  const auto check = [&](const char* name, const std::function<double(int64_t)>& expected, int64_t length = 64) {
    const auto found = Rotary(spec, 8).frequencies(length);
    for (int64_t i = 0; i < 4; ++i) EXPECT_NEAR(found[static_cast<size_t>(i)], expected(i), 1e-6 * expected(i)) << name << " " << i;
  };
  spec.rope = {.scaling = "linear", .factor = 4};
  check("linear", [&](int64_t i) { return plain(i) / 4; });
  spec.rope = {.scaling = "dynamic", .factor = 2};
  check("dynamic, short", plain);
  const double base = 10000 * std::pow(2.0 * 100 / 64 - 1, 8.0 / 6);
  check("dynamic, long", [&](int64_t i) { return std::pow(base, -2.0 * static_cast<double>(i) / 8); }, 100);
  spec.rope = {.scaling = "llama3", .factor = 8, .original_positions = 32, .low_freq_factor = 1, .high_freq_factor = 4};
  check("llama3", [&](int64_t i) {
    const double f = plain(i), turns = 32 * f / (2 * std::acos(-1.0));
    if (turns < 1) return f / 8;
    if (turns > 4) return f;
    const double smooth = (turns - 1) / 3;
    return (1 - smooth) * f / 8 + smooth * f;
  });
  spec.rope = {.scaling = "longrope", .original_positions = 32, .short_factor = {1, 1.5, 2, 2.5}, .long_factor = {3, 4, 5, 6}};
  check("longrope, short", [&](int64_t i) { return plain(i) / (1 + 0.5 * static_cast<double>(i)); }, 32);
  check("longrope, long", [&](int64_t i) { return plain(i) / (3 + static_cast<double>(i)); }, 33);
  EXPECT_NEAR(Rotary(spec, 8).attention_factor(33), std::sqrt(1 + std::log(2.0) / std::log(32.0)), 1e-12);
  // Turns in 32 tokens: 5.09, .509, .0509, .00509. Bounds 4 and 0.05 lie at dimensions 0.21 and 4.04 / 2 of the pairs.
  spec.rope = {.scaling = "yarn", .factor = 4, .original_positions = 32, .beta_fast = 4, .beta_slow = 0.05, .truncate = false};
  const auto dimension = [](double turns) { return 8 * std::log(32 / (turns * 2 * std::acos(-1.0))) / (2 * std::log(10000.0)); };
  check("yarn", [&](int64_t i) {
    const double ramp = std::clamp((static_cast<double>(i) - dimension(4)) / (dimension(0.05) - dimension(4)), 0.0, 1.0);
    return plain(i) * ((1 - ramp) + ramp / 4);
  });
  EXPECT_NEAR(Rotary(spec, 8).attention_factor(64), 0.1 * std::log(4.0) + 1, 1e-12);
  spec.rope.mscale = 0.707, spec.rope.mscale_all_dim = 1;
  EXPECT_NEAR(Rotary(spec, 8).attention_factor(64), (0.0707 * std::log(4.0) + 1) / (0.1 * std::log(4.0) + 1), 1e-12);
}

}  // namespace
}  // namespace switchyard::mixer_forms_test
