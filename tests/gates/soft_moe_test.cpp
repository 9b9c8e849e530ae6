// Soft MoE: the worked example, its invariants, one sequence against many.
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/moe.h"

namespace switchyard::soft_moe_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;
using testing::finite_difference_gap;
using testing::normal;

std::shared_ptr<Gate> soft_gate(ConfigNode::Table options, int64_t d_model, int64_t experts) {
  return gate_registry().make(BlockSpec("soft_moe", options), GateShape{d_model, experts, 0, 1});
}

GateInput in_sequences(const torch::Tensor& hidden, const torch::Tensor& sequence, const torch::Tensor& valid = {}) {
  GateInput in;
  in.hidden = hidden;
  in.sequence_ids = sequence;
  in.valid = valid;
  return in;
}

torch::Tensor one_sequence(int64_t tokens) { return torch::zeros({tokens}, torch::kInt64); }

SoftSlots slots_of(Gate& gate, const GateInput& in) { return std::get<SoftSlots>(gate.route(in).choice); }

MoELayer layer_of(int64_t experts, int64_t slots, const char* kind = "relu", int64_t d_model = 6) {
  MoEOptions o{.d_model = d_model, .d_expert = 5, .num_experts = experts, .gate = {"soft_moe", {{"slots", slots}}}, .experts = kind};
  o.init_std = o.init_out_std = 0.5;
  return MoELayer(o);
}

TEST(SoftMoe, ReproducesTheWorkedExample) {
  auto gate = soft_gate({{"normalise", false}}, 2, 2);
  {
    torch::NoGradGuard no_grad;
    gate->named_parameters()["phi"].copy_(torch::tensor({{1., 0.}, {0., 2.}}));
  }
  const auto x = torch::tensor({{1.f, 0.f}, {0.f, 1.f}, {1.f, 1.f}});
  const auto in = in_sequences(x, one_sequence(3));
  const auto slots = slots_of(*gate, in);
  EXPECT_TRUE(all_close(slots.dispatch, torch::tensor({{.422319, .063379}, {.155362, .468311}, {.422319, .468311}}), 1e-5));
  EXPECT_TRUE(all_close(slots.combine, torch::tensor({{.731059, .268941}, {.119203, .880797}, {.268941, .731059}}), 1e-5));
  // Experts 2 x and -x: linear ones.
  MoELayer layer({.d_model = 2, .d_expert = 1, .num_experts = 2, .experts = "linear"});
  torch::NoGradGuard no_grad;
  layer.experts().named_parameters()["weight"].copy_(at::stack({at::eye(2) * 2, -at::eye(2)}));
  const auto want = torch::tensor({{1.091966, .592741}, {-.266944, -.687251}, {.065620, -.374000}});
  EXPECT_TRUE(all_close(layer.apply(x, in, gate->route(in)), want, 1e-5));
}

TEST(SoftMoe, ColumnsOfDispatchAndRowsOfCombineSumToOne) {
  auto gate = soft_gate({{"slots", 3}}, 8, 4);
  const auto sequence = torch::tensor({0, 0, 0, 7, 7, 3, 3, 3, 3}, torch::kInt64);
  auto valid = torch::ones({9}, torch::kBool);
  valid[4] = false;
  const auto slots = slots_of(*gate, in_sequences(normal({9, 8}, 1), sequence, valid));
  ASSERT_EQ(slots.dispatch.sizes(), torch::IntArrayRef({9, 4 * 3})) << "every expert has exactly 3 slots per sequence";
  EXPECT_EQ(slots.groups, 3);
  EXPECT_TRUE(torch::equal(slots.group_of, torch::tensor({0, 0, 0, 2, -1, 1, 1, 1, 1}, torch::kInt64)));
  for (int64_t g = 0; g < 3; ++g)
    EXPECT_TRUE(all_close((slots.dispatch * (slots.group_of == g).unsqueeze(1)).sum(0), torch::ones({12}), 1e-6)) << g;
  EXPECT_TRUE(all_close(slots.combine.sum(1), valid.to(torch::kFloat32), 1e-6));
  EXPECT_EQ(slots.dispatch[4].abs().sum().item<double>(), 0) << "padding is in no slot";
}

TEST(SoftMoe, TokensAndSlotParametersHaveLengthOneBeforeTheirProduct) {
  auto gate = soft_gate({{"slots", 2}}, 5, 3);
  const auto p = gate->named_parameters();
  EXPECT_EQ(p["scale"].item<double>(), 1);
  torch::NoGradGuard no_grad;
  p["scale"].fill_(2.5);
  const auto x = normal({4, 5}, 2) * 10;
  auto z = torch::zeros({4, 6}, torch::kFloat64);
  for (int64_t t = 0; t < 4; ++t)
    for (int64_t s = 0; s < 6; ++s)
      z[t][s] = 2.5 * at::dot(x[t], p["phi"][s]) / ((x[t].square().sum() + 1e-6).sqrt() * (p["phi"][s].square().sum() + 1e-6).sqrt());
  const auto slots = slots_of(*gate, in_sequences(x, one_sequence(4)));
  EXPECT_TRUE(all_close(slots.dispatch, at::softmax(z, 0), 1e-5));
  EXPECT_TRUE(all_close(slots.combine, at::softmax(z, 1), 1e-5));
}

TEST(SoftMoe, PermutingTokensPermutesTheOutput) {
  auto layer = layer_of(3, 2);
  const auto x = normal({7, 6}, 3);
  const auto order = torch::tensor({4, 0, 6, 2, 5, 1, 3}, torch::kInt64);
  const auto y = layer.forward(x, in_sequences(x, one_sequence(7)));
  EXPECT_TRUE(all_close(layer.forward(x.index_select(0, order), in_sequences(x, one_sequence(7))), y.index_select(0, order), 1e-5));
}

TEST(SoftMoe, SequencesDoNotMixAndPaddingIsLeftOut) {
  auto layer = layer_of(3, 2);
  const auto x = normal({9, 6}, 4);
  const auto sequence = torch::tensor({0, 1, 0, 1, 1, 0, 1, 0, 0}, torch::kInt64);
  auto valid = torch::ones({9}, torch::kBool);
  valid[7] = valid[4] = false;
  const auto y = layer.forward(x, in_sequences(x, sequence, valid));
  for (int64_t s : {0, 1}) {
    const auto rows = ((sequence == s) & valid).nonzero().squeeze(1);
    const auto alone = layer.forward(x.index_select(0, rows), in_sequences(x, one_sequence(rows.size(0))));
    EXPECT_TRUE(all_close(y.index_select(0, rows), alone, 1e-5)) << s;
  }
  EXPECT_EQ(y[7].abs().sum().item<double>(), 0);
  // A token of the other sequence changes nothing, not a bit.
  auto other = x.clone();
  other[1] += 1;
  const auto rows = (sequence == 0).nonzero().squeeze(1);
  EXPECT_TRUE(torch::equal(layer.forward(other, in_sequences(x, sequence, valid)).index_select(0, rows), y.index_select(0, rows)));
}

TEST(SoftMoe, SharpSlotsOfTheTokensThemselvesGiveTheTokensBack) {
  MoELayer layer({.d_model = 6, .d_expert = 1, .num_experts = 3, .gate = {"soft_moe", {{"slots", 2}}}, .experts = "linear"});
  const auto x = normal({6, 6}, 5);
  torch::NoGradGuard no_grad;
  layer.experts().named_parameters()["weight"].copy_(at::eye(6).expand({3, 6, 6}));
  layer.gate().named_parameters()["phi"].copy_(x);
  layer.gate().named_parameters()["scale"].fill_(1e3);
  EXPECT_TRUE(all_close(layer.forward(x, in_sequences(x, one_sequence(6))), x, 1e-4));
}

TEST(SoftMoe, AllGradientsMatchFiniteDifferences) {
  auto layer = layer_of(2, 2, "gelu");
  layer.to(torch::kFloat64);
  const auto sequence = torch::tensor({0, 0, 1, 0, 1}, torch::kInt64);
  auto x = normal({5, 6}, 6).to(torch::kFloat64).requires_grad_();
  const auto target = normal({5, 6}, 7).to(torch::kFloat64);
  const auto loss = [&] { return (layer.forward(x, in_sequences(x, sequence)) * target).sum(); };
  EXPECT_LT(finite_difference_gap(loss, x, 30), 1e-6);
  for (const auto& item : layer.named_parameters()) EXPECT_LT(finite_difference_gap(loss, item.value()), 1e-6) << item.key();
}

TEST(SoftMoe, NoiseIsForTrainingAndBelongsToTheToken) {
  auto gate = soft_gate({{"slots", 2}, {"noise_std", 1.0}}, 6, 3);
  const auto x = normal({8, 6}, 8);
  auto in = in_sequences(x, torch::tensor({0, 0, 0, 0, 1, 1, 1, 1}, torch::kInt64));
  const auto quiet = slots_of(*gate, in).combine;
  EXPECT_TRUE(torch::equal(quiet, slots_of(*soft_gate({{"slots", 2}}, 6, 3), in).combine));
  in.training = true;
  const auto noisy = slots_of(*gate, in).combine;
  EXPECT_FALSE(torch::equal(noisy, quiet));
  auto second = in_sequences(x.slice(0, 4), one_sequence(4));
  second.training = true;
  second.first_token = 4;
  EXPECT_TRUE(torch::equal(slots_of(*gate, second).combine, noisy.slice(0, 4)));
}

TEST(SoftMoe, SlotsFollowTheCapacityFactorAndWrongOptionsAreNamed) {
  const auto slots = [](double factor) {
    return soft_gate({{"tokens", 64}, {"capacity_factor", factor}}, 4, 8)->named_parameters()["phi"].size(0) / 8;
  };
  EXPECT_EQ(slots(1), 8);
  EXPECT_EQ(slots(0.6), 5);  // round(4.8)
  EXPECT_EQ(slots(0.001), 1);
  EXPECT_EQ(soft_gate({{"tokens", 64}}, 4, 8)->experts_per_token(), 1);
  EXPECT_TRUE(soft_gate({}, 4, 8)->looks_ahead());
  const auto refused = [](const char* word, ConfigNode::Table options) {
    expect_error(ErrorKind::config, {"soft_moe", word}, [&] { (void)soft_gate(options, 4, 8); });
  };
  refused("slots = 0", {{"slots", 0}});
  refused("tokens = -1", {{"tokens", -1}});
  refused("capacity_factor", {{"capacity_factor", 0.0}});
  refused("noise_std", {{"noise_std", -1.0}});
  expect_error(ErrorKind::usage, {"soft_moe", "sequence_ids"}, [] { (void)soft_gate({}, 4, 8)->route(testing::input_of(torch::zeros({3, 4}))); });
}

TEST(SoftMoe, CallsWithoutTokensAndOfPaddingAlone) {
  auto layer = layer_of(3, 2);
  EXPECT_EQ(layer.forward(torch::zeros({0, 6}), in_sequences({}, one_sequence(0))).size(0), 0);
  const auto y = layer.forward(torch::ones({4, 6}), in_sequences({}, one_sequence(4), torch::zeros({4}, torch::kBool)));
  EXPECT_EQ(y.abs().sum().item<double>(), 0);
}

}  // namespace
}  // namespace switchyard::soft_moe_test
