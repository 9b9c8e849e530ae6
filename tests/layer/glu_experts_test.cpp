// Gated feed-forward experts by their activation (arXiv:2002.05202), and the clamped form of gpt-oss.
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/expert_bank.h"

namespace switchyard::glu_experts_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::normal;

std::shared_ptr<ExpertBank> bank_of(const BlockSpec& kind, int64_t d_model = 6, int64_t d_expert = 5, int64_t experts = 3) {
  return expert_registry().make(kind, BankShape{.d_model = d_model, .d_expert = d_expert, .num_experts = experts, .init_std = 0.5, .init_out_std = 0.5, .seed = 4});
}

torch::Tensor whole(int64_t rows) { return torch::tensor({int64_t{0}, rows}, torch::kInt64); }

// Three experts with 4, 0 and 5 rows.
const torch::Tensor& offsets() {
  static const auto all = torch::tensor({0, 4, 4, 9}, torch::kInt64);
  return all;
}

// The matrices of the worked examples: d = 2, f = 3.
torch::Tensor worked_example(const BlockSpec& kind) {
  const auto bank = bank_of(kind, 2, 3, 1);
  const torch::NoGradGuard no_grad;
  auto p = bank->named_parameters();
  p["w_in"].copy_(torch::tensor({0.5, 0.1, -0.3, 0.2, 0.4, -0.6, 0.2, -0.1, 0.7, 0.3, -0.5, 0.4}).view({1, 6, 2}));
  p["w_out"].copy_(torch::tensor({1.0, 0.5, -1.0, 0.0, 2.0, 0.25}).view({1, 2, 3}));
  return bank->forward(torch::tensor({{1.f, -2.f}}), whole(1), {})[0];
}

TEST(GluExperts, GiveTheWorkedExamples) {
  EXPECT_TRUE(all_close(worked_example("glu"), torch::tensor({1.327992, -0.204044}), 1e-5));
  EXPECT_TRUE(all_close(worked_example("bilinear"), torch::tensor({2.165, -0.66}), 1e-5));
  EXPECT_TRUE(all_close(worked_example("reglu"), torch::tensor({2.2, -0.52}), 1e-5));
  EXPECT_TRUE(all_close(worked_example("geglu"), torch::tensor({2.031698, -0.525379}), 1e-5));
  EXPECT_TRUE(all_close(worked_example("swiglu"), torch::tensor({1.787918, -0.479103}), 1e-5));
  EXPECT_TRUE(all_close(worked_example("geglu_tanh"), worked_example("geglu"), 5e-4));
  EXPECT_FALSE(torch::equal(worked_example("geglu_tanh"), worked_example("geglu")));
  EXPECT_TRUE(all_close(worked_example("swiglu_clamped"), torch::tensor({0.623193, -0.471439}), 1e-5));
}

// The released network of OpenMoE: what gates is a SwiGLU of two products.
TEST(GluExperts, GatedSwigluMultipliesThreeProducts) {
  const auto bank = bank_of("gated_swiglu");
  const torch::NoGradGuard no_grad;
  auto p = bank->named_parameters();
  ASSERT_EQ(p["w_in"].sizes(), (torch::IntArrayRef{3, 15, 6}));
  EXPECT_EQ(bank->parameters_per_expert(), 4 * 6 * 5);
  EXPECT_EQ(bank->flops_per_row(), 2.0 * 4 * 6 * 5);
  const auto x = normal({9, 6}, 1), y = bank->forward(x, offsets(), {});
  for (int64_t r = 0; r < 9; ++r) {
    const int64_t e = r < 4 ? 0 : 2;
    const auto z = at::mv(p["w_in"][e].to(torch::kFloat64), x[r].to(torch::kFloat64)), a = z.slice(0, 0, 5), b = z.slice(0, 5, 10), u = z.slice(0, 10);
    EXPECT_TRUE(all_close(y[r], at::mv(p["w_out"][e].to(torch::kFloat64), a * b * torch::sigmoid(b) * u).to(torch::kFloat32), 1e-5)) << r;
  }
}

TEST(GluExperts, BilinearOfADoubledInputIsFourTimesTheOutputBitForBit) {
  const auto bank = bank_of("bilinear");
  const torch::NoGradGuard no_grad;
  const auto x = normal({9, 6}, 1);
  EXPECT_TRUE(torch::equal(bank->forward(2 * x, offsets(), {}), 4 * bank->forward(x, offsets(), {})));
}

TEST(GluExperts, AGateOfZerosGivesPhiOfZeroTimesTheRest) {
  const auto x = normal({9, 6}, 1);
  for (const auto& [kind, at_zero] : {std::pair{"glu", 0.5}, {"bilinear", 0.0}, {"reglu", 0.0}, {"geglu", 0.0}, {"geglu_tanh", 0.0}, {"swiglu", 0.0}}) {
    const auto bank = bank_of(kind);
    const torch::NoGradGuard no_grad;
    auto p = bank->named_parameters();
    p["w_in"].slice(1, 0, 5).zero_();
    const auto y = bank->forward(x, offsets(), {});
    for (int64_t r = 0; r < 9; ++r) {
      const int64_t e = r < 4 ? 0 : 2;
      const auto linear = at::mv(p["w_out"][e], at::mv(p["w_in"][e].slice(0, 5), x[r]));
      EXPECT_TRUE(all_close(y[r], at_zero * linear, at_zero == 0 ? 0 : 1e-6)) << kind;
    }
  }
}

TEST(GluExperts, TwoThirdsOfTheWidthCostWhatTwoMatricesDo) {
  const auto size = [](const char* kind, int64_t d_expert) {
    return expert_registry().make(kind, BankShape{.d_model = 768, .d_expert = d_expert, .num_local_experts = 0})->parameters_per_expert();
  };
  for (const char* gated : {"glu", "bilinear", "reglu", "geglu", "swiglu"}) EXPECT_EQ(size(gated, 2048), size("relu", 3072)) << gated;
  EXPECT_EQ(size("relu2", 3072), size("relu", 3072));
  EXPECT_EQ(size("swiglu_clamped", 2048), size("swiglu", 2048) + 2 * 2048 + 768);  // its offsets
}

// Rows of gate and up by turns, as gpt-oss stores them.
TEST(GluExperts, InterleavedRowsGiveWhatGateRowsFirstDo) {
  const auto x = normal({9, 6}, 1);
  for (const char* kind : {"glu", "bilinear", "reglu", "geglu", "swiglu", "swiglu_clamped"}) {
    const auto split = bank_of({kind, {{"bias", true}}}), joint = bank_of({kind, {{"bias", true}, {"interleaved", true}}});
    {
      const torch::NoGradGuard no_grad;
      auto from = split->named_parameters(), to = joint->named_parameters();
      from["b_in"].copy_(normal({3, 10}, 7));
      for (int64_t i = 0; i < 5; ++i)
        for (const char* name : {"w_in", "b_in"}) {
          to[name].select(1, 2 * i).copy_(from[name].select(1, i));
          to[name].select(1, 2 * i + 1).copy_(from[name].select(1, 5 + i));
        }
      to["w_out"].copy_(from["w_out"]);
    }
    const auto y = split->forward(x, offsets(), {}), z = joint->forward(x, offsets(), {});
    EXPECT_TRUE(all_close(z, y, 1e-6)) << kind;
    y.square().sum().backward();
    z.square().sum().backward();
    const auto want = split->named_parameters()["w_in"].grad(), got = joint->named_parameters()["w_in"].grad();
    EXPECT_TRUE(all_close(got.slice(1, 0, 10, 2), want.slice(1, 0, 5), 1e-5)) << kind;
    EXPECT_TRUE(all_close(got.slice(1, 1, 10, 2), want.slice(1, 5), 1e-5)) << kind;
  }
}

TEST(GluExperts, SwishHasTheBetaThatIsAskedFor) {
  const auto x = normal({9, 6}, 1);
  const torch::NoGradGuard no_grad;
  for (const double beta : {0.25, 1.0, 1.702, 3.0}) {
    const auto bank = bank_of({"swiglu", {{"beta", beta}}});
    const auto w_in = bank->named_parameters()["w_in"].to(torch::kFloat64), w_out = bank->named_parameters()["w_out"].to(torch::kFloat64);
    const auto y = bank->forward(x, offsets(), {});
    for (int64_t r = 0; r < 9; ++r) {
      const int64_t e = r < 4 ? 0 : 2;
      const auto z = at::mv(w_in[e], x[r].to(torch::kFloat64));
      const auto g = z.slice(0, 0, 5), u = z.slice(0, 5);
      EXPECT_TRUE(all_close(y[r], at::mv(w_out[e], g / (1 + at::exp(-beta * g)) * u), 1e-5)) << beta;
    }
  }
  EXPECT_TRUE(torch::equal(bank_of({"swiglu", {{"beta", 1.0}}})->forward(x, offsets(), {}), bank_of("swiglu")->forward(x, offsets(), {})));
}

// A limit that most values pass.
TEST(GluExperts, TheClampedFormFollowsItsDefinitionBeyondItsLimits) {
  auto bank = bank_of({"swiglu_clamped", {{"limit", 0.5}}});
  bank->to(torch::kFloat64);
  auto p = bank->named_parameters();
  {
    const torch::NoGradGuard no_grad;
    p["b_in"].copy_(normal({3, 10}, 7));
    p["b_out"].copy_(normal({3, 6}, 8));
  }
  auto x = normal({9, 6}, 1).to(torch::kFloat64).requires_grad_();
  const auto y = bank->forward(x, offsets(), {});
  int64_t beyond = 0;
  for (int64_t r = 0; r < 9; ++r) {
    const int64_t e = r < 4 ? 0 : 2;
    for (int64_t o = 0; o < 6; ++o) {
      double sum = p["b_out"][e][o].item<double>();
      for (int64_t i = 0; i < 5; ++i) {
        double g = p["b_in"][e][i].item<double>() + at::dot(p["w_in"][e][i], x[r]).item<double>();
        double u = p["b_in"][e][5 + i].item<double>() + at::dot(p["w_in"][e][5 + i], x[r]).item<double>();
        beyond += g > 0.5 || std::abs(u) > 0.5;
        g = std::min(g, 0.5);
        u = std::max(-0.5, std::min(u, 0.5));
        sum += p["w_out"][e][o][i].item<double>() * (u + 1) * g / (1 + std::exp(-1.702 * g));
      }
      EXPECT_NEAR(y[r][o].item<double>(), sum, 1e-12);
    }
  }
  EXPECT_GT(beyond, 9 * 5 * 6 / 2);
  const auto loss = [&] { return bank->forward(x, offsets(), {}).square().sum(); };
  for (auto& tensor : {x, p["w_in"], p["w_out"], p["b_in"], p["b_out"]}) EXPECT_LT(testing::finite_difference_gap(loss, tensor), 1e-5);
}

TEST(GluExperts, TheClampedFormInFloat32IsThatInFloat64) {
  const auto bank = bank_of("swiglu_clamped"), twice = bank_of("swiglu_clamped");
  twice->to(torch::kFloat64);
  const auto x = 10 * normal({9, 6}, 1);
  EXPECT_TRUE(all_close(bank->forward(x, offsets(), {}), twice->forward(x.to(torch::kFloat64), offsets(), {}), 1e-5));
}

TEST(GluExperts, WhatMakesNoSenseIsRefused) {
  const auto refused = [](const BlockSpec& kind, std::initializer_list<std::string_view> words) {
    testing::expect_error(ErrorKind::config, words, [&] { expert_registry().check(kind, "model.moe.experts"); });
  };
  refused({"swiglu", {{"beta", 0.0}}}, {"swiglu", "beta = 0"});
  refused({"swiglu_clamped", {{"limit", -1.0}}}, {"limit = -1"});
  refused({"swiglu_clamped", {{"alpha", 0.0}}}, {"alpha = 0"});
  refused({"relu", {{"interleaved", true}}}, {"interleaved"});
}

}  // namespace
}  // namespace switchyard::glu_experts_test
