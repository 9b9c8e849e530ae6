// Hard choices with the gradient of soft ones: the weigher straight_through, Gumbel samples, static logits.
#include "expect_error.h"
#include "support/gate_fixture.h"

#include <cmath>

namespace switchyard::straight_through_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;
using testing::gate_of;
using testing::gate_on_logits;
using testing::input_of;
using testing::normal;

constexpr double kTau = 0.7;

ConfigNode::Table chain(const ConfigNode& select, double tau = kTau) {
  return {{"noise", "gumbel"}, {"normalise", {{"kind", "annealed_softmax"}, {"from", tau}, {"to", tau}}}, {"select", select}, {"weigh", "straight_through"}};
}

const ConfigNode kAll = {{"kind", "dense_to_sparse"}, {"threshold", 0.0}};
const ConfigNode kBest = {{"kind", "top_k"}, {"k", 1}};

// g = -ln(-ln u) of the stream that the gate is given, drawn here.
torch::Tensor gumbel(const GateInput& in, int64_t experts) {
  auto u = torch::empty({in.hidden.size(0), experts});
  in.random.at("gumbel").fill_uniform(u.data_ptr<float>(), u.numel());
  return -(-u.clamp(1e-7, 1 - 1e-7).log()).log();
}

// sum_j w_tj f_{id_tj}(x_t) with outputs [T, E, d].
torch::Tensor mixed(const TokenChoice& c, const torch::Tensor& outputs) {
  const auto mine = outputs.gather(1, c.expert_ids.clamp_min(0).unsqueeze(2).expand({-1, -1, outputs.size(2)}));
  return (mine * c.weights.unsqueeze(2)).sum(1);
}

// Of a call with logits [T, E] as input.
struct Case {
  explicit Case(const ConfigNode& select) : gate(gate_on_logits(chain(select))), in(input_of(normal({20, 4}, 5), true)) {
    in.random = RandomStream(9);
    in.hidden.requires_grad_(true);
  }
  std::shared_ptr<Gate> gate;
  GateInput in;
  torch::Tensor outputs = normal({20, 4, 3}, 6);
};

TEST(StraightThrough, TheOutputIsThatOfTheSampledExpertBitForBit) {
  for (const auto& select : {kAll, kBest}) {
    Case c(select);
    const auto choice = std::get<TokenChoice>(c.gate->route(c.in).choice);
    const auto best = (c.in.hidden + gumbel(c.in, 4)).argmax(1);
    EXPECT_TRUE(torch::equal(choice.expert_ids.select(1, 0), best));
    EXPECT_TRUE(torch::equal(choice.weights.select(1, 0), torch::ones({20})));
    EXPECT_EQ(choice.weights.slice(1, 1).abs().sum().item<double>(), 0);
    EXPECT_TRUE(torch::equal(mixed(choice, c.outputs), at::stack([&] {
      std::vector<torch::Tensor> rows;
      for (int64_t t = 0; t < 20; ++t) rows.push_back(c.outputs[t][best[t].item<int64_t>()]);
      return rows;
    }())));
  }
}

// Oracle: autograd of the soft sum over all experts, with the gradient that the loss has at the hard output.
TEST(StraightThrough, TheGradientIsThatOfTheSoftVersionAtTheSample) {
  Case c(kAll);
  const auto y = mixed(std::get<TokenChoice>(c.gate->route(c.in).choice), c.outputs);
  y.pow(3).sum().backward();  // not linear: where the loss is differentiated matters
  const auto got = c.in.hidden.grad().clone();

  const auto z = c.in.hidden.detach().requires_grad_(true);
  const auto soft = at::einsum("te,ted->td", {at::softmax((z + gumbel(c.in, 4)) / kTau, 1), c.outputs});
  soft.backward(3 * y.detach().square());
  EXPECT_TRUE(all_close(got, z.grad(), 1e-5));
  EXPECT_GT(got.abs().max().item<double>(), 0.1);
}

// With the best expert alone the other terms of the sum over experts are missing.
TEST(StraightThrough, WithTheBestExpertAloneItsOwnTermIsTheGradient) {
  Case c(kBest);
  const auto y = mixed(std::get<TokenChoice>(c.gate->route(c.in).choice), c.outputs);
  y.sum().backward();
  const auto p = at::softmax((c.in.hidden.detach() + gumbel(c.in, 4)) / kTau, 1);
  const auto best = p.argmax(1, /*keepdim=*/true), value = c.outputs.sum(2).gather(1, best), at_best = p.gather(1, best);
  const auto delta = torch::zeros_like(p).scatter_(1, best, 1.0);
  EXPECT_TRUE(all_close(c.in.hidden.grad(), value * at_best * (delta - p) / kTau, 1e-5));
}

TEST(StraightThrough, EvaluationTakesTheBestLogitWithoutNoise) {
  for (const auto& select : {kAll, kBest}) {
    const auto gate = gate_on_logits(chain(select));
    const auto z = normal({20, 4}, 5);
    const auto choice = std::get<TokenChoice>(gate->route(input_of(z)).choice);
    EXPECT_TRUE(torch::equal(choice.expert_ids, z.argmax(1, /*keepdim=*/true)));
    EXPECT_TRUE(torch::equal(choice.weights, torch::ones({20, 1})));
    EXPECT_EQ(gate->experts_per_token(), 1);
  }
}

TEST(StraightThrough, ProbabilitiesBecomeOneHotAsTheTemperatureFalls) {
  double before = 0;
  for (const double tau : {1.0, 0.3, 0.05, 1e-3}) {
    const auto gate = gate_on_logits(chain(kAll, tau));
    auto in = input_of(normal({20, 4}, 5), true);
    in.random = RandomStream(9);
    const double least = std::get<0>(gate->route(in).scores.probs.max(1)).min().item<double>();
    EXPECT_GE(least, before) << tau;
    before = least;
  }
  EXPECT_GT(before, 1 - 1e-6);
}

TEST(StraightThrough, NeedsUnitsThatChooseExperts) {
  const auto gate = gate_of({{"select", "expert_choice"}, {"weigh", "straight_through"}}, 4, 4);
  expect_error(ErrorKind::config, {"straight_through", "units that choose"}, [&] { (void)gate->route(input_of(normal({8, 4}, 1))); });
}

TEST(StraightThrough, ATokenWithoutAFiniteScoreGetsNoWeight) {
  const auto gate = gate_on_logits(chain(kBest));
  const auto choice = std::get<TokenChoice>(gate->route(input_of(torch::full({2, 4}, std::nan("")))).choice);
  EXPECT_EQ(choice.expert_ids.max().item<int64_t>(), -1);
}

// Sequences of 3, 2 and 4 tokens.
GateInput three_sequences() {
  auto in = input_of(torch::zeros({9, 4}), true);
  in.sequence_ids = torch::tensor({0, 0, 0, 1, 1, 2, 2, 2, 2}, torch::kInt64);
  in.random = RandomStream(9);
  return in;
}

TEST(GumbelPerSequence, AllTokensOfASequenceShareTheirDrawAndSequencesDiffer) {
  const auto gate = gate_on_logits({{"noise", {{"kind", "gumbel"}, {"unit", "sequence"}}}, {"weigh", "raw"}});
  const auto in = three_sequences();
  const auto p = gate->route(in).scores.probs;
  for (int64_t t = 1; t < 9; ++t)
    EXPECT_EQ(torch::equal(p[t], p[t - 1]), in.sequence_ids[t].item<int64_t>() == in.sequence_ids[t - 1].item<int64_t>()) << t;
  // The second half of the step as a call of its own draws the same.
  auto rest = in;
  rest.hidden = in.hidden.slice(0, 3);
  rest.sequence_ids = in.sequence_ids.slice(0, 3) - 1;
  rest.first_token = 3;
  EXPECT_TRUE(torch::equal(gate->route(rest).scores.probs, p.slice(0, 3)));
}

TEST(GumbelPerSequence, RefusesOtherUnits) {
  expect_error(ErrorKind::config, {"gumbel", "unit = 'word'", "token or sequence"},
               [] { (void)gate_on_logits({{"noise", {{"kind", "gumbel"}, {"unit", "word"}}}}); });
  const auto gate = gate_of({{"pool", "sequence"}, {"noise", {{"kind", "gumbel"}, {"unit", "sequence"}}}}, 4, 4);
  expect_error(ErrorKind::config, {"gumbel", "pool = 'token'"}, [&] { (void)gate->route(three_sequences()); });
}

TEST(StaticScore, GivesEveryTokenTheSameLogitsAndLearnsThemAlone) {
  const auto gate = gate_of({{"score", "static"}, {"select", {{"kind", "top_k"}, {"k", 2}}}, {"weigh", "raw"}}, 6, 4);
  EXPECT_EQ(gate->num_parameters(), 4);
  const auto routing = gate->route(input_of(normal({5, 6}, 2)));
  EXPECT_TRUE(torch::equal(routing.scores.logits, torch::zeros({5, 4})));
  EXPECT_TRUE(torch::equal(std::get<TokenChoice>(routing.choice).expert_ids[4], torch::tensor({0, 1}, torch::kInt64)));  // ties: the lower id
  routing.scores.logits.select(1, 2).sum().backward();
  EXPECT_TRUE(torch::equal(gate->named_parameters()["score.logits"].grad(), torch::tensor({0.f, 0.f, 5.f, 0.f})));
}

}  // namespace
}  // namespace switchyard::straight_through_test
