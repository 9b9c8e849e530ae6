// Experts with a part that all share (PAD-Net, arXiv:2211.05528).
#include "experts/partial.h"

#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/moe.h"

namespace switchyard::partial_experts_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::normal;

BankShape shape() { return {.d_model = 6, .d_expert = 5, .num_experts = 3, .init_std = 0.5, .init_out_std = 0.5, .seed = 4}; }

PartialBank::Options of(const char* kind, const char* lambda = "both") {
  PartialBank::Options o;
  o.of = kind;
  o.lambda = lambda;
  return o;
}

const torch::Tensor& offsets() {
  static const auto all = torch::tensor({0, 4, 4, 9}, torch::kInt64);
  return all;
}

// A mask of about half ones.
void mask_half(PartialBank& bank) {
  for (auto& item : bank.named_buffers())
    if (item.key().find("mask") != std::string::npos) item.value().copy_((normal(item.value().sizes(), 5) > 0).to(torch::kFloat32));
}

TEST(PadNet, WithEveryEntryDynamicItIsTheHostBitForBit) {
  const torch::NoGradGuard no_grad;
  const auto x = normal({9, 6}, 1);
  for (const char* kind : {"relu", "relu2", "gelu", "gelu_tanh", "glu", "bilinear", "reglu", "geglu", "geglu_tanh", "swiglu"}) {
    PartialBank bank(of(kind), shape());
    EXPECT_TRUE(torch::equal(bank.forward(x, offsets(), {}), expert_registry().make(kind, shape())->forward(x, offsets(), {}))) << kind;
  }
}

TEST(PadNet, WithEveryEntryStaticAllExpertsAreOne) {
  const torch::NoGradGuard no_grad;
  PartialBank bank(of("swiglu"), shape());
  bank.keep(0);
  const auto x = normal({9, 6}, 1), elsewhere = torch::tensor({0, 0, 7, 9}, torch::kInt64);
  EXPECT_TRUE(all_close(bank.forward(x, offsets(), {}), bank.forward(x, elsewhere, {}), 1e-6));
  EXPECT_EQ(bank.dynamic_entries(), 0);
  EXPECT_EQ(bank.stored_entries(), 2 * 5 * 6 + 6 * 5);
}

TEST(PadNet, FactorsFollowTheirDefinition) {
  const auto factors = [](const char* lambda) {
    PartialBank bank(of("relu", lambda), shape());
    const torch::NoGradGuard no_grad;
    if (auto* phi = bank.named_parameters().find("shared.phi")) phi->fill_(0.4);
    const auto [dynamic, fixed] = bank.factors();
    return std::pair{dynamic.item<double>(), fixed.item<double>()};
  };
  EXPECT_NEAR(factors("both").first, 1.197375, 1e-6);
  EXPECT_NEAR(factors("both").second, 0.802625, 1e-6);
  EXPECT_NEAR(factors("dynamic").first, 1.197375, 1e-6);
  EXPECT_EQ(factors("dynamic").second, 1);
  EXPECT_EQ(factors("static").first, 1);
  EXPECT_NEAR(factors("static").second, 0.802625, 1e-6);
  EXPECT_EQ(factors("none"), (std::pair{1.0, 1.0}));
}

TEST(PadNet, MixesEntriesAsTheMaskSays) {
  const torch::NoGradGuard no_grad;
  PartialBank bank(of("relu"), shape());
  mask_half(bank);
  auto p = bank.named_parameters();
  p["shared.phi"].fill_(0.4);
  for (const char* name : {"shared.w_in", "shared.w_out"}) p[name].copy_(normal(p[name].sizes(), 9));
  const auto m = bank.named_buffers();
  const auto x = normal({9, 6}, 1), y = bank.forward(x, offsets(), {});
  for (int64_t r = 0; r < 9; ++r) {
    const int64_t e = r < 4 ? 0 : 2;
    const auto mixed = [&](const char* name) {
      const auto mask = m[std::string("shared.mask_") + name];
      return at::where(mask > 0, 1.197375 * p[name][e], 0.802625 * p[std::string("shared.") + name]);
    };
    EXPECT_TRUE(all_close(y[r], at::mv(mixed("w_out"), at::relu(at::mv(mixed("w_in"), x[r]))), 1e-5));
  }
}

TEST(PadNet, StaticEntriesOfExpertsHaveNoGradient) {
  PartialBank bank(of("swiglu"), shape());
  mask_half(bank);
  bank.forward(normal({9, 6}, 1), offsets(), {}).square().sum().backward();
  for (const char* name : {"w_in", "w_out"}) {
    const auto mask = bank.named_buffers()[std::string("shared.mask_") + name];
    const auto gradient = bank.named_parameters()[name].grad(), common = bank.named_parameters()[std::string("shared.") + name].grad();
    EXPECT_EQ((gradient * (1 - mask)).abs().max().item<float>(), 0) << name;
    EXPECT_GT((gradient * mask).abs().max().item<float>(), 0) << name;
    EXPECT_EQ((common * mask).abs().max().item<float>(), 0) << name;
  }
}

TEST(PadNet, GradientsMatchFiniteDifferencesInFloat64) {
  PartialBank bank(of("geglu"), shape());
  mask_half(bank);
  bank.to(torch::kFloat64);
  auto x = normal({9, 6}, 1).to(torch::kFloat64).requires_grad_();
  const auto loss = [&] { return bank.forward(x, offsets(), {}).square().sum(); };
  EXPECT_LT(testing::finite_difference_gap(loss, x), 1e-5);
  for (auto& item : bank.named_parameters()) {
    for (auto& p : bank.parameters()) p.mutable_grad() = torch::Tensor();
    EXPECT_LT(testing::finite_difference_gap(loss, item.value(), 24), 1e-5) << item.key();
  }
}

TEST(PadNet, PartitionKeepsTheEntriesThatMatterMost) {
  PartialBank bank(of("relu", "none"), shape());
  bank.forward(normal({9, 6}, 1), offsets(), {}).square().sum().backward();
  const auto w = bank.named_parameters()["w_in"].detach(), g = bank.named_parameters()["w_in"].grad();
  const auto want = (w * g).sum(0).abs().flatten();
  const auto mean = w.mean(0);
  bank.add_scores();
  for (const double share : {0.7, 0.4, 0.1}) {
    bank.keep(share);
    const auto mask = bank.named_buffers()["shared.mask_w_in"].flatten();
    EXPECT_EQ(mask.sum().item<int64_t>(), std::llround(share * 30)) << share;
    if (share == 0.7) {
      EXPECT_GE(want.index({mask > 0}).min().item<double>(), want.index({mask == 0}).max().item<double>());
      EXPECT_TRUE(torch::equal(bank.named_parameters()["shared.w_in"].detach().flatten().index({mask == 0}), mean.flatten().index({mask == 0})));
    }
  }
  EXPECT_EQ(bank.stored_entries(), 3 * 6 + 60 - 6);
  testing::expect_error(ErrorKind::usage, {"share = 0.5", "only 3"}, [&] { bank.keep(0.5); });
  testing::expect_error(ErrorKind::usage, {"share = 1.5"}, [&] { bank.keep(1.5); });
}

TEST(PadNet, WhatMakesNoSenseIsRefused) {
  testing::expect_error(ErrorKind::config, {"of = 'lora'"}, [] { PartialBank bank(of("lora"), shape()); });
  testing::expect_error(ErrorKind::config, {"lambda = 'all'"}, [] { PartialBank bank(of("relu", "all"), shape()); });
}

}  // namespace
}  // namespace switchyard::partial_experts_test
