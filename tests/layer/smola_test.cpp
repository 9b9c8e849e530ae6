// Omni-SMoLA: Soft MoE over LoRA experts, of one modality or of all tokens, beside a linear. And what a site does with a mixture.
#include "expect_error.h"
#include "layer/site_mixture.h"
#include "support/gate_fixture.h"

#include <ATen/ATen.h>

namespace switchyard::smola_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;
using testing::finite_difference_gap;
using testing::normal;

constexpr int64_t kIn = 5, kOut = 4, kExperts = 3;
constexpr int64_t kText = 0, kImage = 1;

SiteMixture bank(int64_t number, std::vector<int64_t> tags, int64_t experts = kExperts, int64_t slots = 2) {
  const Site site{"linear", kIn, kOut};
  MoEOptions o{.num_experts = experts, .gate = {"soft_moe", {{"slots", slots}, {"normalise", false}}}, .experts = {"lora", {{"rank", 2}, {"b_std", 0.5}}}};
  o.seed = static_cast<uint64_t>(number) + 1;
  return {number, site, std::make_shared<MoELayer>(fitted(o, site, false)), std::move(tags)};
}

GateInput call_of(std::vector<int64_t> tags, std::vector<int64_t> sequences = {}) {
  GateInput in;
  in.tags = torch::tensor(tags, torch::kInt64);
  in.sequence_ids = sequences.empty() ? torch::zeros_like(in.tags) : torch::tensor(sequences, torch::kInt64);
  return in;
}

torch::Tensor delta(const SiteMixture& place, const torch::Tensor& x, const GateInput& in) {
  RoutingStats stats;
  return place(x, torch::zeros({x.size(0), kOut}, x.options()), in, stats);
}

// Oracle: C B A D^T X over the tokens of one group, one expert and one slot at a time.
torch::Tensor smola_by_loops(const SiteMixture& place, const torch::Tensor& x) {
  const auto p = place.moe->named_parameters();
  const auto z = at::matmul(x, p["gate.phi"].t());
  const auto dispatch = at::softmax(z, 0), combine = at::softmax(z, 1);
  const int64_t slots = z.size(1) / place.moe->options().num_experts;
  auto y = torch::zeros({x.size(0), kOut});
  for (int64_t s = 0; s < z.size(1); ++s) {
    const auto slot = (dispatch.select(1, s).unsqueeze(1) * x).sum(0);
    const auto out = at::mv(p["experts.b"][s / slots], at::mv(p["experts.a"][s / slots], slot));
    y += combine.select(1, s).unsqueeze(1) * out;
  }
  return y;
}

TEST(Smola, IsSoftMoeOfLorasOverTheTokensOfItsModality) {
  const auto text = bank(0, {kText}), all = bank(2, {});
  const auto x = normal({7, kIn}, 1);
  const auto in = call_of({0, 1, 0, 0, 1, 1, 0});
  const auto here = (in.tags == kText).nonzero().view({-1});
  const auto got = delta(text, x, in);
  EXPECT_TRUE(all_close(got.index_select(0, here), smola_by_loops(text, x.index_select(0, here)), 1e-5));
  EXPECT_EQ(got.index({in.tags == kImage}).abs().max().item<double>(), 0);
  EXPECT_TRUE(all_close(delta(all, x, in), smola_by_loops(all, x), 1e-5));
}

TEST(Smola, ATokenGetsTheJointBankAndThatOfItsModality) {
  const SiteMixtures banks({bank(0, {kText}), bank(1, {kImage}), bank(2, {})});
  const auto x = normal({6, kIn}, 1), y = normal({6, kOut}, 2);
  const auto in = call_of({0, 1, 0, 0, 1, 1});
  std::vector<MixtureStats> done;
  const auto got = banks.hook(in, done)("linear", x, y);
  ASSERT_EQ(done.size(), 3u);
  const auto text = delta(banks.places()[0], x, in), image = delta(banks.places()[1], x, in), all = delta(banks.places()[2], x, in);
  for (int64_t t = 0; t < 6; ++t)
    EXPECT_TRUE(all_close(got[t], y[t] + all[t] + (in.tags[t].item<int64_t>() == kText ? text[t] : image[t]), 1e-6)) << t;
  EXPECT_TRUE(banks.hook(in, done)("another linear", x, y).is_same(y));
}

TEST(Smola, TheTextBankDoesNotSeeVisualTokens) {
  const auto text = bank(0, {kText}), all = bank(2, {});
  auto x = normal({7, kIn}, 1);
  const auto in = call_of({0, 1, 0, 0, 1, 1, 0});
  const auto before = delta(text, x, in), joint = delta(all, x, in);
  x[1].fill_(9);
  EXPECT_TRUE(torch::equal(delta(text, x, in), before));
  EXPECT_FALSE(all_close(delta(all, x, in)[0], joint[0], 1e-3));
}

TEST(Smola, PermutedTokensGivePermutedOutputs) {
  const auto text = bank(0, {kText});
  const auto x = normal({7, kIn}, 1);
  const auto order = torch::tensor({3, 0, 6, 2, 5, 1, 4}, torch::kInt64);
  auto in = call_of({0, 1, 0, 0, 1, 1, 0}), moved = in;
  moved.tags = in.tags.index_select(0, order);
  EXPECT_TRUE(all_close(delta(text, x.index_select(0, order), moved), delta(text, x, in).index_select(0, order), 1e-5));
}

TEST(Smola, ColumnsOfDispatchAndRowsOfCombineSumToOneOverTheMembersAlone) {
  const auto text = bank(0, {kText});
  const auto in = call_of({0, 1, 0, 0, 1, 1, 0}, {4, 4, 4, 8, 8, 8, 8});
  GateInput members = in;
  members.hidden = normal({7, kIn}, 1);
  members.valid = in.tags == kText;
  const auto slots = std::get<SoftSlots>(text.moe->gate().route(members).choice);
  for (const auto& [first, last] : {std::pair<int64_t, int64_t>{0, 3}, {3, 7}})  // each sequence has slots of its own
    EXPECT_TRUE(all_close(slots.dispatch.slice(0, first, last).sum(0), torch::ones({slots.dispatch.size(1)}), 1e-5)) << first;
  EXPECT_TRUE(all_close(slots.combine.sum(1), members.valid.to(torch::kFloat32), 1e-5));
}

TEST(Smola, OneTokenOneExpertOneSlotIsPlainLora) {
  const auto one = bank(0, {}, 1, 1);
  const auto x = normal({1, kIn}, 1);
  const auto p = one.moe->named_parameters();
  EXPECT_TRUE(all_close(delta(one, x, call_of({0})), at::matmul(at::matmul(x, p["experts.a"][0].t()), p["experts.b"][0].t()), 1e-6));
}

TEST(Smola, ReproducesTheWorkedExample) {
  // Tokens 1 and 3 with the slot logits .2 and .6; the expert doubles.
  const Site site{"linear", 1, 1};
  MoEOptions o{.num_experts = 1, .gate = {"soft_moe", {{"normalise", false}}}, .experts = {"lora", {{"rank", 1}}}};
  const SiteMixture place{0, site, std::make_shared<MoELayer>(fitted(o, site, false)), {}};
  torch::NoGradGuard no_grad;
  auto p = place.moe->named_parameters();
  p["gate.phi"].fill_(0.2);
  p["experts.a"].fill_(2);
  p["experts.b"].fill_(1);
  RoutingStats stats;
  const auto x = torch::tensor({{1.f}, {3.f}});
  EXPECT_TRUE(all_close(place(x, torch::zeros({2, 1}), call_of({0, 0}), stats), torch::full({2, 1}, 4.394751), 1e-5));
}

TEST(Smola, ACallWithoutTokensOfItsModalityChangesNothing) {
  const auto text = bank(0, {kText});
  auto x = normal({3, kIn}, 1).requires_grad_();
  const auto y = delta(text, x, call_of({1, 1, 1}));
  EXPECT_TRUE(torch::equal(y, torch::zeros({3, kOut})));
  y.sum().backward();
}

TEST(Smola, PaddingIsInNoBank) {
  const auto all = bank(2, {});
  auto x = normal({5, kIn}, 1);
  auto in = call_of({0, 0, 0, 0, 0});
  in.valid = torch::tensor({true, true, true, false, true});
  const auto before = delta(all, x, in);
  x[3].fill_(7);
  EXPECT_TRUE(torch::equal(delta(all, x, in), before));
  EXPECT_EQ(before[3].abs().max().item<double>(), 0);
}

TEST(Smola, GradientsEqualFiniteDifferencesInDoublePrecision) {
  const auto text = bank(0, {kText});
  text.moe->to(torch::kFloat64);
  auto x = normal({6, kIn}, 1).to(torch::kFloat64).requires_grad_();
  const auto in = call_of({0, 1, 0, 0, 1, 0}, {0, 0, 0, 1, 1, 1});
  const auto loss = [&] { return (delta(text, x, in) * normal({6, kOut}, 2)).sum(); };
  EXPECT_LT(finite_difference_gap(loss, x), 1e-6);
  for (auto& item : text.moe->named_parameters()) EXPECT_LT(finite_difference_gap(loss, item.value()), 1e-5) << item.key();
}

TEST(SiteMixture, RescaledHeadsOfTokensThatTakeNoPartStayAsTheyAre) {
  const Site site{"attn.k", kIn, 6, /*heads=*/2};
  MoEOptions o{.num_experts = 2, .gate = "dense", .experts = "scale"};
  const SiteMixture place{0, site, std::make_shared<MoELayer>(fitted(o, site, /*per_head=*/true)), {1}, 2};
  torch::NoGradGuard no_grad;
  place.moe->named_parameters()["gate.score.weight"].zero_();
  place.moe->named_parameters()["experts.scale"].copy_(torch::tensor({{1., 1., 1., 2., 2., 2.}, {3., 3., 3., 6., 6., 6.}}));
  const auto y = normal({1, 3, 6}, 1);
  RoutingStats stats;
  const auto got = place(normal({1, 3, kIn}, 2), y, call_of({1, 0, 1}), stats);
  EXPECT_TRUE(all_close(got[0][0], y[0][0] * torch::tensor({2., 2., 2., 4., 4., 4.}), 1e-6));
  EXPECT_TRUE(torch::equal(got[0][1], y[0][1]));
  EXPECT_EQ(stats.num_tokens, 4);
}

TEST(SiteMixture, ExpertsThatDoNotFitAreNamed) {
  MoEOptions o{.num_experts = 2, .gate = "dense", .experts = "linear"};
  expect_error(ErrorKind::config, {"'linear'", "attn.k makes 6 of 5", "lora"}, [&] { (void)fitted(o, {"attn.k", 5, 6, 2}, false); });
  o.experts = "lora";
  expect_error(ErrorKind::config, {"per_head", "'lora'", "scale"}, [&] { (void)fitted(o, {"attn.k", 5, 6, 2}, true); });
}

}  // namespace
}  // namespace switchyard::smola_test
