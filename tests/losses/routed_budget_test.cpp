#include "core/routed_share.h"
#include "expect_error.h"
#include "support/moe_oracle.h"
#include "switchyard/loss.h"

namespace switchyard::routed_budget_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::expect_error;

// A layer whose tokens have these routed shares.
RoutingStats layer_of(const torch::Tensor& shares, int64_t num_experts = 4, int64_t layer = 0) {
  RoutingStats s{.layer = layer, .num_experts = num_experts, .top_k = 2, .num_tokens = shares.size(0)};
  s.counts = s.first_counts = s.kept_counts = torch::zeros({num_experts});
  s.terms[kRoutedShare] = shares.sum();
  return s;
}

RoutingStats layer_of(std::initializer_list<float> shares, int64_t num_experts = 4, int64_t layer = 0) {
  return layer_of(torch::tensor(std::vector<float>(shares)), num_experts, layer);
}

double total(const std::vector<RoutingStats>& layers, const char* reduce, double budget = 0.8) {
  LossSpec spec("routed_budget", 1.0);
  spec.term.options = ConfigNode{{"budget", budget}};
  spec.layer_reduce = reduce;
  return AuxLosses({spec})(layers).total.item<double>();
}

TEST(RoutedBudget, ReproducesTheWorkedExamples) {
  EXPECT_NEAR(total({layer_of({.9f, .2f, .7f, .4f})}, "pooled"), .25, 1e-6);
  EXPECT_NEAR(total({layer_of({.9f, .5f, .7f})}, "sum"), .1, 1e-6);
  EXPECT_NEAR(total({layer_of({.9f, .5f, .7f})}, "sum", 0.7), 0, 1e-6);
}

TEST(RoutedBudget, PooledTakesOneAbsoluteValueOverTheTokensOfAllLayersOfAnyShape) {
  const std::vector<RoutingStats> layers = {layer_of({1.f, 1.f, 1.f, 1.f}, 4, 0), layer_of({.4f, .6f}, 8, 3)};
  EXPECT_NEAR(total(layers, "pooled"), std::abs(5.0 / 6 - .8), 1e-6);
  EXPECT_NEAR(total(layers, "sum"), .2 + .3, 1e-6) << "a budget per layer does not let them make up for each other";
  EXPECT_NEAR(total(layers, "mean"), .25, 1e-6);
}

TEST(RoutedBudget, LayersThatDoNotMixAreLeftOutWhenPooled) {
  RoutingStats plain = layer_of({.9f, .9f, .9f}, 4, 1);
  plain.terms.clear();
  EXPECT_NEAR(total({plain, layer_of({.5f, .7f})}, "pooled"), .2, 1e-6);
  expect_error(ErrorKind::config, {"routed_budget", "layer 1", "cmr", "pooled"}, [&] { (void)total({plain, layer_of({.5f})}, "sum"); });
  expect_error(ErrorKind::config, {"routed_budget", "no other layer"}, [&] { (void)total({plain, plain}, "pooled"); });
}

TEST(RoutedBudget, NoTokensCostNothing) { EXPECT_EQ(total({layer_of(torch::zeros({0}))}, "pooled"), 0); }

TEST(RoutedBudget, GradientMatchesFiniteDifferencesInFloat64) {
  for (const double level : {0.3, 0.9}) {
    auto shares = torch::full({5}, level, torch::kFloat64).requires_grad_();
    const auto term = loss_registry().make({"routed_budget", ConfigNode{}});
    EXPECT_LT(testing::finite_difference_gap([&] { return term->value(layer_of(shares)); }, shares), 1e-6);
    EXPECT_NEAR(shares.grad()[0].item<double>(), level < 0.8 ? -0.2 : 0.2, 1e-9);
  }
}

TEST(RoutedBudget, ABudgetOutsideZeroToOneIsRefused) {
  expect_error(ErrorKind::config, {"budget = 1.5", "0 to 1"}, [] { (void)loss_registry().make({"routed_budget", {{"budget", 1.5}}}); });
}

}  // namespace
}  // namespace switchyard::routed_budget_test
