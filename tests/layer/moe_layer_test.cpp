#include "switchyard/moe.h"

#include "core/ops.h"
#include "support/moe_oracle.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

using testing::all_close;

torch::Tensor noise(torch::IntArrayRef shape, uint64_t seed) {
  auto x = torch::empty(shape);
  RandomStream(seed).fill_normal(x.data_ptr<float>(), x.numel());
  return x;
}

struct Case {
  std::string name;
  int64_t tokens, experts, k;
  std::string kind;
  double capacity = 0;
  std::string gate = "top_k";
};
std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

MoEOptions options_of(const Case& c) {
  MoEOptions o{.d_model = 12, .d_expert = 7, .num_experts = c.experts};
  o.gate = c.gate == "dense" ? BlockSpec("dense") : BlockSpec("top_k", {{"k", c.k}, {"renormalise", c.k > 1}});
  o.experts = c.kind;
  o.init_std = o.init_out_std = 0.5;
  o.capacity.factor = c.capacity;
  o.losses = {{"load_balance", 1e-2}, {"router_z", 1e-3}};
  o.seed = 7;
  return o;
}

struct Result {
  torch::Tensor y;
  std::map<std::string, torch::Tensor> grads;
};

// The layer against the loop oracle: same decisions, float64, all gradients by autograd through the loops.
Result oracle(MoELayer& layer, const Case& c, const torch::Tensor& x32, const MoETrace& trace, const torch::Tensor& dy) {
  std::map<std::string, torch::Tensor> p;
  for (const auto& item : layer.named_parameters()) p[item.key()] = item.value().detach().to(torch::kFloat64).requires_grad_();
  auto x = x32.detach().to(torch::kFloat64).requires_grad_();
  const auto probs = at::softmax(at::matmul(x, p["gate.score.weight"].t()), -1);
  const auto ids = std::get<TokenChoice>(trace.routing.choice).expert_ids;
  auto w = probs.gather(1, ids);
  if (c.gate != "dense" && c.k > 1) w = w / w.sum(-1, true);
  const auto y = testing::moe_by_loops(x, {ids, w}, trace.plan.kept, testing::ffn_expert(c.kind, p["experts.w_in"], p["experts.w_out"]));
  (y * dy.to(torch::kFloat64)).sum().backward();
  Result out{y, {{"x", x.grad()}}};
  for (auto& [name, value] : p) out.grads[name] = value.grad().defined() ? value.grad() : torch::zeros_like(value);
  return out;
}

class LoopOracle : public ::testing::TestWithParam<Case> {};

TEST_P(LoopOracle, OutputAndAllGradientsAreEqual) {
  const auto c = GetParam();
  MoELayer layer(options_of(c));
  layer.train();
  auto x = noise({c.tokens, 12}, 3).requires_grad_();
  if (c.name == "one_expert_takes_all") {
    torch::NoGradGuard no_grad;
    auto router = layer.named_parameters()["gate.score.weight"];
    router.zero_();
    router[2].fill_(5);
    x.abs_();
  }
  const auto dy = noise({c.tokens, 12}, 4);
  GateInput input;
  input.training = true;
  MoETrace trace;
  const auto y = layer.forward(x, input, &trace);
  (y * dy).sum().backward();
  const auto want = oracle(layer, c, x, trace, dy);
  // Sums of at most d + 2f float32 products with unit-size terms.
  const double tolerance = 40 * 1.2e-7 * 12;
  EXPECT_TRUE(all_close(y, want.y, tolerance));
  EXPECT_TRUE(all_close(x.grad(), want.grads.at("x"), tolerance));
  for (const auto& item : layer.named_parameters())
    EXPECT_TRUE(all_close(item.value().grad().defined() ? item.value().grad() : torch::zeros_like(item.value()), want.grads.at(item.key()), tolerance)) << item.key();
  EXPECT_EQ(trace.stats.counts.sum().item<double>(), static_cast<double>(c.tokens * (c.gate == "dense" ? c.experts : c.k)));
  EXPECT_EQ(trace.plan.num_rows(), trace.plan.kept.sum().item<int64_t>());
}

INSTANTIATE_TEST_SUITE_P(Sizes, LoopOracle,
                         ::testing::Values(Case{"plain", 37, 8, 2, "swiglu"}, Case{"more_experts_than_rows", 3, 16, 2, "swiglu"},
                                           Case{"one_token", 1, 5, 3, "geglu"}, Case{"k_is_E", 19, 4, 4, "swiglu"},
                                           Case{"switch", 41, 6, 1, "relu"}, Case{"gelu", 23, 7, 2, "gelu"},
                                           Case{"one_expert", 11, 1, 1, "swiglu"}, Case{"one_expert_takes_all", 29, 5, 1, "swiglu"},
                                           Case{"drops", 37, 5, 2, "swiglu", 0.5}, Case{"dense", 13, 6, 6, "swiglu", 0, "dense"}, Case{"glu", 17, 5, 2, "glu"},
                                           Case{"bilinear", 17, 5, 2, "bilinear"}, Case{"reglu", 17, 5, 2, "reglu"}, Case{"relu2", 17, 5, 2, "relu2"}),
                         [](const auto& info) { return info.param.name; });

TEST(MoELayer, BatchWithoutTokensGivesNothingAndGradientsOfZero) {
  MoELayer layer(options_of({"empty", 0, 4, 2, "swiglu"}));
  auto x = torch::zeros({0, 12}).requires_grad_();
  auto [y, aux] = layer(x);
  EXPECT_EQ(y.sizes(), (std::vector<int64_t>{0, 12}));
  (y.sum() + aux).backward();
  EXPECT_EQ(x.grad().numel(), 0);
}

TEST(MoELayer, DenseGateIsTheWeightedSumOfAllExperts) {
  MoELayer layer(options_of({"dense", 9, 5, 5, "swiglu", 0, "dense"}));
  const auto x = noise({9, 12}, 8);
  torch::NoGradGuard no_grad;
  const auto p = layer.named_parameters();
  const auto probs = at::softmax(at::matmul(x, p["gate.score.weight"].t()), -1);
  auto want = torch::zeros_like(x);
  for (int64_t e = 0; e < 5; ++e) {
    const auto z = at::matmul(x, p["experts.w_in"][e].t());
    want += probs.slice(1, e, e + 1) * at::matmul(at::silu(z.slice(1, 0, 7)) * z.slice(1, 7), p["experts.w_out"][e].t());
  }
  EXPECT_TRUE(all_close(layer(x).hidden, want, 1e-5));
}

TEST(MoELayer, EqualExpertsGiveThatExpertForAnyRouter) {
  auto o = options_of({"equal", 9, 4, 2, "swiglu"});
  MoELayer layer(o);
  torch::NoGradGuard no_grad;
  for (auto& item : layer.experts().named_parameters()) item.value().copy_(item.value().slice(0, 0, 1).expand_as(item.value()).clone());
  const auto x = noise({9, 12}, 8);
  const auto one = layer.experts().forward(at::cat({x, x.slice(0, 0, 0)}), torch::tensor({int64_t{0}, int64_t{9}, int64_t{9}, int64_t{9}, int64_t{9}}), {});
  EXPECT_TRUE(all_close(layer(x).hidden, one, 1e-5));
}

TEST(MoELayer, RenamingExpertsChangesNothing) {
  MoELayer layer(options_of({"permuted", 21, 6, 2, "swiglu"}));
  const auto x = noise({21, 12}, 8);
  torch::NoGradGuard no_grad;
  const auto before = layer(x).hidden.clone();
  const auto order = torch::tensor({3, 0, 5, 1, 4, 2}, torch::kInt64);
  for (auto& item : layer.named_parameters()) item.value().copy_(item.value().index_select(0, order));
  EXPECT_TRUE(all_close(layer(x).hidden, before, 1e-5));
}

TEST(MoELayer, PaddingIsRoutedNowhereAndCountedNowhere) {
  MoELayer layer(options_of({"padding", 10, 4, 2, "swiglu"}));
  const auto x = noise({10, 12}, 8);
  GateInput input;
  input.valid = torch::tensor({true, true, true, false, true, false, true, true, true, false});
  MoETrace trace;
  const auto y = layer.forward(x, input, &trace);
  EXPECT_EQ(trace.stats.num_tokens, 7);
  EXPECT_EQ(trace.stats.counts.sum().item<double>(), 14);
  EXPECT_EQ(trace.stats.scores.probs.size(0), 7);
  EXPECT_EQ(y[3].abs().max().item<double>(), 0);
  const auto alone = layer(x.index({input.valid}));
  EXPECT_TRUE(all_close(y.index({input.valid}), alone.hidden, 1e-6));
  MoETrace compact;
  (void)layer.forward(x.index({input.valid}), GateInput{}, &compact);
  EXPECT_TRUE(all_close(trace.stats.counts, compact.stats.counts, 0));
}

TEST(MoELayer, PassThroughAddsTheTokenItselfForEachDroppedPair) {
  auto o = options_of({"drops", 24, 4, 2, "swiglu", 0.5});
  MoELayer drop(o);
  o.capacity.overflow = "pass_through";
  MoELayer pass(o);
  drop.train();
  pass.train();
  const auto x = noise({24, 12}, 8);
  GateInput input;
  input.training = true;
  MoETrace trace;
  torch::NoGradGuard no_grad;
  const auto dropped = drop.forward(x, input, &trace);
  const auto& choice = std::get<TokenChoice>(trace.routing.choice);
  ASSERT_GT(trace.stats.dropped_fraction(), 0);
  EXPECT_TRUE(all_close(pass.forward(x, input), dropped + x * (choice.weights * ~trace.plan.kept).sum(1, true), 1e-5));
}

TEST(MoELayer, SharedExpertsAddTheSumOfSeparateFeedForwards) {
  auto o = options_of({"shared", 15, 4, 2, "swiglu"});
  o.num_shared_experts = 2;
  MoELayer layer(o);
  const auto x = noise({15, 12}, 8);
  torch::NoGradGuard no_grad;
  const auto with = layer(x).hidden;
  const auto p = layer.named_parameters();
  const auto w_in = p["shared_experts.w_in"][0], w_out = p["shared_experts.w_out"][0];  // [2 * 14, 12], [12, 14]
  auto sum = torch::zeros_like(x);
  for (int64_t s = 0; s < 2; ++s) {
    const auto g = at::matmul(x, w_in.slice(0, 7 * s, 7 * s + 7).t()), u = at::matmul(x, w_in.slice(0, 14 + 7 * s, 21 + 7 * s).t());
    sum += at::matmul(at::silu(g) * u, w_out.slice(1, 7 * s, 7 * s + 7).t());
  }
  p["shared_experts.w_out"].zero_();
  EXPECT_TRUE(all_close(with - layer(x).hidden, sum, 1e-5));
}

// The two shapes that have no plan, with decisions made by hand.
TEST(MoELayer, SoftSlotsAreTwoMatrixProductsAroundTheExperts) {
  MoELayer layer(options_of({"slots", 11, 3, 1, "swiglu"}));
  const auto x = noise({11, 12}, 8);
  const SoftSlots slots{at::softmax(noise({11, 6}, 1), 0), at::softmax(noise({11, 6}, 2), 1)};
  torch::NoGradGuard no_grad;
  const auto p = layer.named_parameters();
  const auto expert = testing::ffn_expert("swiglu", p["experts.w_in"], p["experts.w_out"]);
  std::vector<torch::Tensor> out;
  for (int64_t s = 0; s < 6; ++s) out.push_back(expert(s / 2, at::matmul(slots.dispatch.t(), x)[s]));
  EXPECT_TRUE(all_close(layer.apply(x, {}, {.choice = slots}), at::matmul(slots.combine, at::stack(out)), 1e-5));
}

TEST(MoELayer, ExpertMixAveragesParametersPerGroup) {
  MoELayer layer(options_of({"mix", 9, 4, 1, "swiglu"}));
  const auto x = noise({9, 12}, 8);
  const ExpertMix mix{at::softmax(noise({2, 4}, 1), 1), torch::tensor({0, 1, 1, 0, 0, 1, 0, 1, 1}, torch::kInt64)};
  torch::NoGradGuard no_grad;
  const auto p = layer.named_parameters();
  const auto merged = [&](const char* name) { return at::einsum("ge,eij->gij", {mix.weights, p[name]}); };
  const auto expert = testing::ffn_expert("swiglu", merged("experts.w_in"), merged("experts.w_out"));
  std::vector<torch::Tensor> out;
  for (int64_t t = 0; t < 9; ++t) out.push_back(expert(mix.group_of[t].item<int64_t>(), x[t]));
  EXPECT_TRUE(all_close(layer.apply(x, {}, {.choice = mix}), at::stack(out), 1e-5));
}

TEST(MoELayer, ExpertChoiceAddsUpOverTheExpertsThatPickedAToken) {
  MoELayer layer(options_of({"columns", 9, 3, 1, "swiglu"}));
  const auto x = noise({9, 12}, 8);
  const ExpertChoice choice{torch::tensor({0, 4, 4, 8, 2, -1}, torch::kInt64).view({3, 2}), at::softmax(noise({3, 2}, 3), 1)};
  torch::NoGradGuard no_grad;
  const auto p = layer.named_parameters();
  const auto expert = testing::ffn_expert("swiglu", p["experts.w_in"], p["experts.w_out"]);
  auto want = torch::zeros_like(x);
  for (int64_t e = 0; e < 3; ++e)
    for (int64_t c = 0; c < 2; ++c)
      if (const auto t = choice.token_ids[e][c].item<int64_t>(); t >= 0) want[t] += choice.weights[e][c] * expert(e, x[t]);
  EXPECT_TRUE(all_close(layer.apply(x, {}, {.choice = choice}), want, 1e-5));
}

TEST(MoELayer, GradientsMatchFiniteDifferencesInFloat64) {
  for (const std::string kind : {"relu", "gelu", "relu2", "glu", "bilinear", "reglu", "geglu", "geglu_tanh", "swiglu"}) {
    auto o = options_of({"fd", 9, 4, 2, kind});
    o.num_shared_experts = 1;
    MoELayer layer(o);
    layer.to(torch::kFloat64);
    const auto x = noise({9, 12}, 8).to(torch::kFloat64), dy = noise({9, 12}, 9).to(torch::kFloat64);
    const auto loss = [&] {
      auto [y, aux] = layer(x);
      return (y * dy).sum() + aux.to(torch::kFloat64);
    };
    for (auto& item : layer.named_parameters()) EXPECT_LT(testing::finite_difference_gap(loss, item.value()), 1e-4) << kind << " " << item.key();
  }
}

TEST(MoELayer, Bfloat16ComputeStaysWithinItsRounding) {
  MoELayer layer(options_of({"bf16", 64, 8, 2, "swiglu"}));
  const auto x = noise({64, 12}, 8);
  torch::NoGradGuard no_grad;
  const auto exact = layer(x).hidden;
  const ComputeScope scope(ComputeType::bfloat16);
  const auto rounded = layer(x).hidden;
  EXPECT_FALSE(torch::equal(exact, rounded));
  EXPECT_TRUE(all_close(rounded, exact, 1e-2));  // three roundings of 2^-9 on the way
}

TEST(MoELayer, RefusesWhatMakesNoSense) {
  const auto message = [](MoEOptions o) -> std::string {
    try { MoELayer layer(o); } catch (const Error& e) { return e.what(); }
    return "built";
  };
  auto o = options_of({"bad", 1, 8, 2, "swiglu"});
  o.gate = {"top_k", {{"k", 9}}};
  EXPECT_EQ(message(o), "top_k = 9 exceeds num_experts = 8 in layers.0.ffn");
  o.gate = {"top_k", {{"k", 1}}};
  EXPECT_NE(message(o).find("task loss cannot train the router"), std::string::npos);
  o.gate = "top_kk";
  EXPECT_NE(message(o).find("did you mean 'top_k'?"), std::string::npos);
  o.gate = {"top_k", {{"k", 2}}};
  o.d_expert = 0;
  EXPECT_EQ(message(o), "d_expert = 0 in layers.0.ffn, expected at least 1");
  o.d_expert = 4;
  o.causal = true;
  o.capacity.factor = 1;
  o.capacity.priority = "score";
  EXPECT_NE(message(o).find("leaks the future"), std::string::npos);
  o.capacity.priority = "arrival";
  EXPECT_EQ(message(o), "built");
}

TEST(MoE, IsAnOrdinaryModuleOfAnotherModule) {
  struct Net : torch::nn::Module {
    Net() { register_module("moe", moe.ptr()); }
    MoE moe{MoEOptions{.d_model = 8, .d_expert = 16, .num_experts = 4, .losses = {{"load_balance", 1e-2}}}};
  } net;
  EXPECT_EQ(net.named_parameters().size(), 3);
  auto [hidden, aux_loss] = net.moe(noise({2, 5, 8}, 1));
  EXPECT_EQ(hidden.sizes(), (std::vector<int64_t>{2, 5, 8}));
  EXPECT_GT(aux_loss.item<double>(), 0);
}

}  // namespace
}  // namespace switchyard
