// Experts of kind `linear`: one matrix each.
#include "support/moe_oracle.h"
#include "switchyard/expert_bank.h"
#include "switchyard/moe.h"

namespace switchyard::linear_experts_test {
namespace {

using testing::all_close;

torch::Tensor noise(std::vector<int64_t> shape, uint64_t seed) {
  auto out = torch::empty(shape);
  RandomStream(seed).fill_normal(out.data_ptr<float>(), out.numel());
  return out;
}

std::shared_ptr<ExpertBank> bank_of(int64_t experts) {
  return expert_registry().make(BlockSpec("linear"), BankShape{.d_model = 5, .d_expert = 1, .num_experts = experts, .init_out_std = 0.5, .seed = 3});
}

torch::Tensor offsets(std::vector<int64_t> ends) { return torch::tensor(ends, torch::kInt64); }

TEST(LinearExperts, EachRowMeetsTheMatrixOfItsExpert) {
  const auto bank = bank_of(4);
  const auto x = noise({9, 5}, 1), w = bank->named_parameters()["weight"];
  const std::vector<int64_t> ends = {0, 2, 2, 8, 9};  // one expert has no rows
  const auto y = bank->forward(x, offsets(ends), {});
  for (size_t e = 0; e + 1 < ends.size(); ++e)
    for (int64_t r = ends[e]; r < ends[e + 1]; ++r) EXPECT_TRUE(all_close(y[r], at::mv(w[static_cast<int64_t>(e)], x[r]), 1e-6)) << r;
  EXPECT_EQ(bank->parameters_per_expert(), 25);
  EXPECT_EQ(bank->flops_per_row(), 50);
}

// What no other kind promises: averaged parameters are averaged outputs.
TEST(LinearExperts, AMixOfParametersIsTheMixOfOutputs) {
  const auto bank = bank_of(3);
  const auto x = noise({7, 5}, 2), weights = at::softmax(noise({2, 3}, 4), -1);
  const auto mixed = bank->forward_merged(x, offsets({0, 3, 7}), weights, {});
  auto want = torch::zeros({7, 5});
  for (int64_t e = 0; e < 3; ++e) {
    std::vector<int64_t> all_to_e(4, 0);
    for (size_t i = static_cast<size_t>(e) + 1; i < 4; ++i) all_to_e[i] = 7;
    const auto y = bank->forward(x, offsets(all_to_e), {});
    want.slice(0, 0, 3) += weights[0][e] * y.slice(0, 0, 3);
    want.slice(0, 3, 7) += weights[1][e] * y.slice(0, 3, 7);
  }
  EXPECT_TRUE(all_close(mixed, want, 1e-6));
}

TEST(LinearExperts, GradientsMatchFiniteDifferencesInFloat64) {
  MoELayer layer({.d_model = 5, .d_expert = 1, .num_experts = 4, .experts = "linear", .init_out_std = 0.5});
  layer.to(torch::kFloat64);
  const auto x = noise({9, 5}, 8).to(torch::kFloat64), dy = noise({9, 5}, 9).to(torch::kFloat64);
  const auto loss = [&] { return (layer(x).hidden * dy).sum(); };
  for (auto& item : layer.named_parameters()) EXPECT_LT(testing::finite_difference_gap(loss, item.value()), 1e-4) << item.key();
}

TEST(LinearExperts, AnExpertStartsTheSameWhoeverHoldsIt) {
  const auto all = bank_of(4);
  const auto half = expert_registry().make(BlockSpec("linear"), BankShape{.d_model = 5, .d_expert = 1, .num_experts = 4, .first_expert = 2, .num_local_experts = 2,
                                                                         .init_out_std = 0.5, .seed = 3});
  EXPECT_TRUE(torch::equal(half->named_parameters()["weight"], all->named_parameters()["weight"].slice(0, 2)));
}

}  // namespace
}  // namespace switchyard::linear_experts_test
