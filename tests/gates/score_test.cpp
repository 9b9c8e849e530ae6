// Scorers and normalisers: worked examples, loops, invariances, finite differences.
#include "expect_error.h"
#include "support/gate_fixture.h"

#include <cmath>

namespace switchyard::score_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::choose;
using testing::expect_error;
using testing::finite_difference_gap;
using testing::fixture_logits;
using testing::gate_of;
using testing::gate_on_logits;
using testing::input_of;
using testing::normal;

torch::Tensor logits(Gate& gate, const torch::Tensor& x) { return gate.route(input_of(x)).scores.logits; }

void set(Gate& gate, const char* name, const torch::Tensor& value) {
  torch::NoGradGuard no_grad;
  gate.named_parameters()[name].copy_(value);
}

// Largest gap between gradients and differences over every parameter of the gate and its input.
double gradient_gap(Gate& gate, const torch::Tensor& input) {
  gate.to(torch::kFloat64);
  auto x = input.to(torch::kFloat64).requires_grad_();
  const auto weight = normal({x.size(0), logits(gate, x).size(1)}, 50).to(torch::kFloat64);
  const auto loss = [&] { return (logits(gate, x) * weight).sum(); };
  double worst = finite_difference_gap(loss, x);
  for (auto& p : gate.parameters()) worst = std::max(worst, finite_difference_gap(loss, p));
  return worst;
}

// Cosine -----------------------------------------------------------------------------------------------------------------

std::shared_ptr<Gate> cosine_example() {
  auto gate = gate_of({{"score", {{"kind", "cosine"}, {"dim", 2}}}}, 2, 3);
  set(*gate, "score.project", at::eye(2));
  set(*gate, "score.experts", torch::tensor({1., 0., .6, .8, -1., 0.}).view({3, 2}));
  return gate;
}

TEST(Cosine, ReproducesTheWorkedExample) {
  const auto routing = cosine_example()->route(input_of(torch::tensor({{3.f, 4.f}})));
  EXPECT_TRUE(all_close(routing.scores.logits * 0.3, torch::tensor({{.6, 1., -.6}}), 1e-5));
  EXPECT_TRUE(all_close(routing.scores.probs, torch::tensor({{.207815, .788379, .003806}}), 1e-5));
}

TEST(Cosine, StaysWithinOneOverTauAndForgetsScales) {
  auto gate = gate_of({{"score", {{"kind", "cosine"}, {"dim", 4}, {"tau", 1.0}}}}, 12, 8);
  const auto x = normal({40, 12}, 2);
  const auto z = logits(*gate, x);
  EXPECT_LE(z.abs().max().item<double>(), 1 + 1e-5);
  EXPECT_TRUE(all_close(logits(*gate, 7 * x), z, 1e-5));
  set(*gate, "score.experts", gate->named_parameters()["score.experts"] * 3);
  EXPECT_TRUE(all_close(logits(*gate, x), z, 1e-5));
}

TEST(Cosine, GradientsAreOrthogonalToExpertsAndMatchFiniteDifferences) {
  auto gate = gate_of({{"score", {{"kind", "cosine"}, {"dim", 3}}}}, 5, 4);
  EXPECT_LT(gradient_gap(*gate, normal({6, 5}, 3)), 1e-6);
  auto experts = gate->named_parameters()["score.experts"];
  experts.mutable_grad() = torch::Tensor();
  (logits(*gate, normal({6, 5}, 3).to(torch::kFloat64)) * normal({6, 4}, 4)).sum().backward();
  EXPECT_LT((experts * experts.grad()).sum(1).abs().max().item<double>(), 1e-6 * experts.grad().abs().max().item<double>());
}

TEST(Cosine, TheReleasedCodeHasNoTemperatureAndDoesNotNormaliseTokens) {
  auto gate = gate_of({{"score", {{"kind", "cosine"}, {"dim", 4}, {"form", "code"}}}}, 12, 8);
  const auto x = normal({10, 12}, 2);
  EXPECT_TRUE(all_close(logits(*gate, 2 * x), 2 * logits(*gate, x), 1e-5));
  EXPECT_FALSE(gate->named_parameters().contains("score.log_tau"));
}

// Attention --------------------------------------------------------------------------------------------------------------

TEST(AttentionRouter, ReproducesTheWorkedExample) {
  auto gate = gate_of({{"score", "attention"}}, 1, 3);
  set(*gate, "score.weight", torch::tensor({.5, -.2, .1, 1., 0., -1., .3, .9, -.4}).view({9, 1}));
  const auto routing = gate->route(input_of(torch::ones({1, 1})));
  EXPECT_TRUE(all_close(routing.scores.logits, torch::tensor({{.353891, .216128, .288908}}), 1e-5));
  EXPECT_TRUE(all_close(routing.scores.probs, torch::tensor({{.356076, .310251, .333673}}), 1e-5));
}

TEST(AttentionRouter, EqualsTheTripleLoopAndTokensDoNotSeeEachOther) {
  auto gate = gate_of({{"score", "attention"}}, 6, 5);
  const auto x = normal({7, 6}, 3);
  const auto z = logits(*gate, x);
  const auto w = gate->named_parameters()["score.weight"].detach().to(torch::kFloat64).view({3, 5, 6});
  for (int64_t t = 0; t < 7; ++t) {
    const auto q = at::mv(w[0], x[t].to(torch::kFloat64)), k = at::mv(w[1], x[t].to(torch::kFloat64)), v = at::mv(w[2], x[t].to(torch::kFloat64));
    for (int64_t i = 0; i < 5; ++i) {
      double sum = 0, value = 0;
      for (int64_t j = 0; j < 5; ++j) {
        const double a = std::exp((q[i] * k[j]).item<double>());
        sum += a;
        value += a * v[j].item<double>();
      }
      EXPECT_NEAR(z[t][i].item<double>(), value / sum, 1e-5);
    }
  }
  EXPECT_TRUE(all_close(logits(*gate, x.flip(0)), z.flip(0), 1e-6));
  EXPECT_LT(gradient_gap(*gate, x), 1e-6);
}

// MLP --------------------------------------------------------------------------------------------------------------------

TEST(MlpScore, EqualsItsFormulaAndItsGradientsMatchFiniteDifferences) {
  auto gate = gate_of({{"score", {{"kind", "mlp"}, {"hidden", 9}}}}, 6, 5);
  set(*gate, "score.inner_bias", normal({9}, 8));
  const auto x = normal({7, 6}, 3);
  const auto parameters = gate->named_parameters();
  const auto want = at::matmul(at::gelu(at::matmul(x, parameters["score.inner"].t()) + parameters["score.inner_bias"]), parameters["score.outer"].t());
  EXPECT_TRUE(all_close(logits(*gate, x), want, 1e-5));
  EXPECT_LT(gradient_gap(*gate, x), 1e-6);
}

TEST(MlpScore, DropsInTrainingOnly) {
  auto gate = gate_of({{"score", {{"kind", "mlp"}, {"hidden", 32}, {"dropout", 0.5}}}}, 6, 5);
  const auto x = normal({7, 6}, 3);
  EXPECT_TRUE(torch::equal(logits(*gate, x), logits(*gate, x)));
  EXPECT_FALSE(torch::equal(gate->route(input_of(x, true)).scores.logits, logits(*gate, x)));
}

// Standardised logits ----------------------------------------------------------------------------------------------------

ConfigNode::Table standardised(double lambda) { return {{"normalise", {{"kind", "standardise"}, {"lambda", lambda}}}, {"weigh", "raw"}}; }

TEST(Standardise, ReproducesTheWorkedExamples) {
  const auto p = [](double lambda) { return gate_on_logits(standardised(lambda))->route(input_of(fixture_logits())).scores.probs[0]; };
  EXPECT_TRUE(all_close(p(1), torch::tensor({.608150, .248637, .101653, .041560}), 1e-5));
  EXPECT_TRUE(all_close(p(2), torch::tensor({.833499, .139321, .023288, .003893}), 1e-5));
}

TEST(Standardise, ForgetsShiftAndScaleAndSurvivesEqualLogits) {
  const auto probs = [](const torch::Tensor& z) { return gate_on_logits(standardised(1), z.size(1))->route(input_of(z)).scores.probs; };
  const auto z = normal({20, 8}, 2);
  EXPECT_TRUE(all_close(probs(5 * z - 3), probs(z), 1e-5));
  EXPECT_TRUE(all_close(probs(torch::ones({3, 8})), torch::full({3, 8}, 0.125), 1e-6));
}

TEST(Standardise, TheGradientHasNoPartAlongShiftAndScale) {
  auto gate = gate_on_logits(standardised(1));
  gate->to(torch::kFloat64);
  auto z = normal({5, 4}, 4).to(torch::kFloat64).requires_grad_();
  const auto weight = normal({5, 4}, 5).to(torch::kFloat64);
  const auto loss = [&] { return (gate->route(input_of(z)).scores.probs * weight).sum(); };
  EXPECT_LT(finite_difference_gap(loss, z, 20), 1e-6);
  EXPECT_LT(z.grad().sum(1).abs().max().item<double>(), 1e-9);
  EXPECT_LT((z.grad() * (z - z.mean(1, true))).sum(1).abs().max().item<double>(), 1e-6);
}

// Null experts -----------------------------------------------------------------------------------------------------------

TEST(AdaMoE, ReproducesTheWorkedExample) {
  // Two true experts and two null ones: the router has four rows.
  auto gate = gate_of({{"null_experts", 2}, {"select", {{"kind", "top_k"}, {"k", 2}}}}, 4, 2);
  set(*gate, "score.weight", at::eye(4));
  const auto choice = choose(*gate, fixture_logits());
  EXPECT_TRUE(torch::equal(choice.expert_ids, testing::ids_of({{0, 1}, {1, 0}, {0, -1}, {-1, -1}, {0, 1}, {-1, 0}})));
  EXPECT_TRUE(all_close(choice.weights[0], torch::tensor({.731059, .268941}), 1e-5));
  EXPECT_TRUE(torch::equal(choice.weights[2], torch::tensor({1.f, 0.f})));
  EXPECT_EQ(choice.weights[3].abs().sum().item<float>(), 0);
  EXPECT_EQ(gate->experts_per_token(), 1);  // 2 of 4, half of them true
}

TEST(AdaMoE, WithoutNullExpertsItIsTopKAndTheirOrderDoesNotMatter) {
  const auto x = normal({60, 6}, 4);
  auto gate = gate_of({{"null_experts", 3}, {"select", {{"kind", "top_k"}, {"k", 3}}}}, 6, 5);
  const auto first = gate->route(input_of(x));
  const auto w = gate->named_parameters()["score.weight"].detach().clone();
  set(*gate, "score.weight", at::cat({w.slice(0, 0, 5), w.slice(0, 5).flip(0)}));
  const auto second = gate->route(input_of(x));
  EXPECT_TRUE(torch::equal(std::get<TokenChoice>(first.choice).expert_ids, std::get<TokenChoice>(second.choice).expert_ids));
  EXPECT_TRUE(all_close(second.terms.at("null_balance"), first.terms.at("null_balance"), 1e-6));
  expect_error(ErrorKind::config, {"null_experts = -1"}, [] { (void)gate_of({{"null_experts", -1}}, 6, 5); });
}

TEST(AdaMoE, TheLossBalancesNullExpertsAsOnePool) {
  auto gate = gate_of({{"null_experts", 2}, {"select", {{"kind", "top_k"}, {"k", 2}}}}, 4, 2);
  set(*gate, "score.weight", at::eye(4));
  const auto p = at::softmax(fixture_logits(), 1).mean(0);
  // Choices over the six tokens: expert 0 five times, 1 three, 2 two, 3 two; null experts share the mean of theirs.
  const double want = 4 * (5 * p[0] + 3 * p[1] + 2 * (p[2] + p[3])).item<double>() / 6;
  EXPECT_NEAR(gate->route(input_of(fixture_logits())).terms.at("null_balance").item<double>(), want, 1e-5);
}

}  // namespace
}  // namespace switchyard::score_test
