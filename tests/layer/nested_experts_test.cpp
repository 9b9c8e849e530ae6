// Nested experts: widths of one network.
#include "experts/nested.h"

#include "expect_error.h"
#include "layer/tag_network.h"
#include "support/gate_fixture.h"
#include "switchyard/moe.h"

namespace switchyard::nested_experts_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;
using testing::finite_difference_gap;
using testing::normal;

constexpr int64_t kWidth = 6, kInner = 16;

BankShape shape_of(int64_t experts = 4) {
  return {.d_model = kWidth, .d_expert = kInner, .num_experts = experts, .init_std = 0.5, .init_out_std = 0.5, .seed = 3};
}

// E_f(x) by definition: the first f neurons alone.
torch::Tensor prefix(NestedBank& bank, const std::string& kind, int64_t f, const torch::Tensor& x) {
  const auto p = bank.named_parameters();
  auto h = testing::phi(kind, at::matmul(x, p["w_in"].slice(0, 0, f).t()));
  if (p.contains("w_up")) h = h * at::matmul(x, p["w_up"].slice(0, 0, f).t());
  return at::matmul(h, p["w_out"].slice(1, 0, f).t());
}

TEST(NestedExperts, EachOneIsTheNetworkOfItsFirstNeurons) {
  for (const char* kind : {"relu", "gelu", "geglu", "swiglu"})
    for (const std::vector<int64_t>& ends : {std::vector<int64_t>{0, 3, 5, 9, 11}, {0, 0, 4, 4, 11}, {0, 11, 11, 11, 11}, {0, 0, 0, 0, 11}}) {
      NestedBank bank({.of = kind, .shares = {}}, shape_of());
      const auto x = normal({11, kWidth}, 1);
      const auto y = bank.forward(x, torch::tensor(ends, torch::kInt64), {});
      ASSERT_EQ(y.sizes(), x.sizes());
      for (int64_t e = 0; e < 4; ++e)
        EXPECT_TRUE(all_close(y.slice(0, ends[static_cast<size_t>(e)], ends[static_cast<size_t>(e) + 1]),
                              prefix(bank, kind, bank.widths()[static_cast<size_t>(e)], x.slice(0, ends[static_cast<size_t>(e)], ends[static_cast<size_t>(e) + 1])), 1e-5))
            << kind << " " << e;
    }
}

// Which values of all parameters expert e reads: those that its output has a gradient to.
torch::Tensor parameters_read(NestedBank& bank, int64_t expert) {
  bank.zero_grad();
  auto offsets = torch::zeros({5}, torch::kInt64);
  offsets.slice(0, expert + 1).fill_(7);
  bank.forward(normal({7, kWidth}, 2), offsets, {}).square().sum().backward();
  std::vector<torch::Tensor> out;
  for (const auto& p : bank.parameters()) out.push_back((p.grad() != 0).flatten());
  return at::cat(out);
}

TEST(NestedExperts, TheParametersOfAChoiceAreAPartOfThoseOfTheNext) {
  NestedBank bank({}, shape_of());
  torch::Tensor before;
  for (int64_t e = 0; e < 4; ++e) {
    const auto now = parameters_read(bank, e);
    EXPECT_EQ(now.sum().item<int64_t>(), 3 * kWidth * bank.widths()[static_cast<size_t>(e)]) << e;
    if (before.defined()) {
      EXPECT_FALSE((before & ~now).any().item<bool>()) << e;
    }
    before = now;
  }
  EXPECT_TRUE(before.all().item<bool>());
}

TEST(NestedExperts, AnEmptyCallStaysEmptyAndHasAGraph) {
  NestedBank bank({}, shape_of());
  const auto y = bank.forward(torch::zeros({0, kWidth}), torch::zeros({5}, torch::kInt64), {});
  EXPECT_EQ(y.size(0), 0);
  EXPECT_EQ(y.size(1), kWidth);
}

TEST(NestedExperts, TakeTheSharesThatAreGiven) {
  NestedBank bank({.of = "relu", .shares = {0.125, 0.5, 1.0}}, shape_of(3));
  EXPECT_EQ(bank.widths(), (std::vector<int64_t>{2, 8, 16}));
  EXPECT_EQ(bank.flops_of(0), 2.0 * 2 * kWidth * 2);
  EXPECT_EQ(bank.flops_of(1), 2.0 * 2 * kWidth * 8);
  EXPECT_EQ(bank.flops_per_row(), bank.flops_of(2));
  EXPECT_EQ((bank.flat_weights()[0] != 0).sum().item<int64_t>(), kWidth * 2);
}

TEST(NestedExperts, RefuseSharesThatAreNoWidths) {
  const auto make = [](std::vector<double> shares, int64_t experts) { NestedBank({.of = "relu", .shares = std::move(shares)}, shape_of(experts)); };
  expect_error(ErrorKind::config, {"nested", "2 shares", "num_experts = 3"}, [&] { make({0.5, 1}, 3); });
  expect_error(ErrorKind::config, {"nested", "shares[1] = 0.5", "the last one 1"}, [&] { make({0.25, 0.5}, 2); });
  expect_error(ErrorKind::config, {"nested", "shares[0] = 0", "more than 0"}, [&] { make({0, 1}, 2); });
  expect_error(ErrorKind::config, {"nested", "rising widths", "8 of d_expert = 16"}, [&] { make({0.5, 0.5, 1}, 3); });
  expect_error(ErrorKind::config, {"nested", "rising widths", "d_expert = 16"}, [&] { make({}, 17); });
  expect_error(ErrorKind::config, {"nested", "of = 'tanh'"}, [&] { NestedBank({.of = "tanh", .shares = {}}, shape_of()); });
}

TEST(NestedExperts, GradientsMatchFiniteDifferencesInFloat64) {
  for (const char* kind : {"gelu", "swiglu"}) {
    NestedBank bank({.of = kind, .shares = {}}, shape_of());
    bank.to(torch::kFloat64);
    const auto x = normal({9, kWidth}, 4).to(torch::kFloat64).requires_grad_(true);
    const auto loss = [&] { return bank.forward(x, torch::tensor({0, 2, 2, 6, 9}, torch::kInt64), {}).pow(2).sum(); };
    EXPECT_LT(finite_difference_gap(loss, x), 1e-5) << kind;
    for (auto& p : bank.parameters()) EXPECT_LT(finite_difference_gap(loss, p), 1e-5) << kind;
  }
}

TEST(NestedExperts, SortedNeuronsKeepTheWholeNetworkAndMakeItsPrefixesBetter) {
  NestedBank bank({}, shape_of());
  const auto x = normal({200, kWidth}, 5);
  {
    torch::NoGradGuard no_grad;
    auto p = bank.named_parameters();
    for (int64_t f = 0; f < kInner; ++f) p["w_out"].select(1, f).mul_(f % 4 == 3 ? 3.0 : 0.2);  // every fourth neuron matters
  }
  const auto whole = prefix(bank, "swiglu", kInner, x);
  const auto gap = [&] { return (prefix(bank, "swiglu", kInner / 4, x) - whole).square().mean().item<double>(); };
  const double before = gap();
  bank.sort_neurons(x);
  EXPECT_TRUE(all_close(prefix(bank, "swiglu", kInner, x), whole, 1e-5));
  EXPECT_LT(gap(), 0.2 * before);
  const auto importance = bank.importance(x);
  EXPECT_TRUE(torch::equal(importance, std::get<0>(importance.sort(0, /*descending=*/true))));
}

TEST(NestedExperts, InALayerRunTheWidthThatTheGateChose) {
  MoEOptions o{.d_model = kWidth, .d_expert = kInner, .num_experts = 4, .gate = {"by_tag"}, .experts = {"nested", {{"of", "relu"}}}};
  o.init_std = o.init_out_std = 0.5;
  MoELayer layer(o);
  GateInput in;
  in.tags = torch::tensor({3, 0, 2, 0, 1, 3}, torch::kInt64);
  const auto x = normal({6, kWidth}, 7);
  const auto y = layer.forward(x, in);
  auto& bank = dynamic_cast<NestedBank&>(layer.experts());
  for (int64_t t = 0; t < 6; ++t)
    EXPECT_TRUE(all_close(y[t], prefix(bank, "relu", 4 * (in.tags[t].item<int64_t>() + 1), x[t]), 1e-5)) << t;
  expect_error(ErrorKind::unsupported, {"layers.0.ffn", "no part of its own"}, [&] { (void)experts_of_tag(layer, 1); });
  expect_error(ErrorKind::unsupported, {"no part of its own"}, [&] { (void)with_experts(layer, {0, 1}); });
}

}  // namespace
}  // namespace switchyard::nested_experts_test
