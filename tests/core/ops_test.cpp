// Every operation: the float32 kernels against the float64 reference path, values and gradients; the reference path against
// finite differences.
#include "core/ops.h"

#include "support/moe_oracle.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

using testing::all_close;
using testing::finite_difference_gap;
using Op = std::function<torch::Tensor(const std::vector<torch::Tensor>&)>;

torch::Tensor normal(torch::IntArrayRef shape, uint64_t seed) {
  auto x = torch::empty(shape);
  RandomStream(seed).fill_normal(x.data_ptr<float>(), x.numel());
  return x;
}

// `inputs` are float32; weights the outputs with fixed numbers so that every output matters to the gradient.
void check(const std::string& name, const Op& op, const std::vector<torch::Tensor>& inputs, double tolerance) {
  std::vector<torch::Tensor> fast, exact;
  for (const auto& x : inputs) {
    fast.push_back(x.clone().requires_grad_());
    exact.push_back(x.to(torch::kFloat64).requires_grad_());
  }
  const auto y = op(fast);
  const auto want = op(exact);
  EXPECT_TRUE(all_close(y, want, tolerance)) << name;
  const auto dy = normal(y.sizes(), 77);
  (y * dy).sum().backward();
  const auto loss = [&] { return (op(exact) * dy.to(torch::kFloat64)).sum(); };
  for (size_t i = 0; i < inputs.size(); ++i) EXPECT_LT(finite_difference_gap(loss, exact[i]), 1e-5) << name << " input " << i;
  for (auto& x : exact) x.mutable_grad() = torch::Tensor();
  loss().backward();
  for (size_t i = 0; i < inputs.size(); ++i) EXPECT_TRUE(all_close(fast[i].grad(), exact[i].grad(), tolerance)) << name << " gradient " << i;
}

TEST(Ops, LinearLayers) {
  check("linear", [](const auto& x) { return ops::linear(x[0], x[1]); }, {normal({3, 5, 11}, 1), normal({7, 11}, 2)}, 1e-5);
}

TEST(Ops, GroupedLinearWithIdleExperts) {
  const auto offsets = torch::tensor({0, 4, 4, 9, 13}, torch::kInt64);
  check("grouped", [&](const auto& x) { return ops::grouped_linear(x[0], offsets, x[1]); }, {normal({13, 6}, 1), normal({4, 5, 6}, 2)}, 1e-5);
}

TEST(Ops, Activations) {
  for (const std::string phi : {"relu", "gelu", "gelu_tanh", "silu"}) {
    check(phi, [&](const auto& x) { return ops::activation(phi, x[0]); }, {normal({9, 13}, 1) * 2}, 1e-5);
    check("gated " + phi, [&](const auto& x) { return ops::gated_activation(phi, x[0]); }, {normal({9, 14}, 1) * 2}, 1e-5);
  }
}

TEST(Ops, RmsNorm) {
  check("rms_norm", [](const auto& x) { return ops::rms_norm(x[0], x[1], 1e-5); }, {normal({2, 5, 19}, 1), normal({19}, 2) + 1}, 1e-5);
  const auto golden = ops::rms_norm(torch::tensor({1.f, 2.f, 3.f, 4.f}).view({1, 4}), torch::ones({4}), 1e-6);
  EXPECT_TRUE(all_close(golden, torch::tensor({0.365148, 0.730297, 1.095445, 1.460593}).view({1, 4}), 2e-6));
}

TEST(Ops, SoftmaxAndLogSumExp) {
  for (const auto& x : {normal({9, 13}, 1) * 3, normal({3, 4, 16}, 2), normal({5, 1}, 3)}) {
    check("softmax", [](const auto& in) { return ops::softmax(in[0]); }, {x}, 1e-5);
    check("logsumexp", [](const auto& in) { return ops::logsumexp(in[0]); }, {x}, 1e-5);
  }
  const auto far = torch::tensor({3000.f, 3001.f, -3000.f}).view({1, 3});
  EXPECT_TRUE(all_close(ops::softmax(far), at::softmax(far.to(torch::kFloat64), -1), 1e-6));
}

TEST(Ops, SharesOfTheChosen) {
  const auto ids = torch::tensor({2, 0, 5, -1, -1, -1, 1, 1, 3, 4}, torch::kInt64).view({5, 2});
  check("chosen_shares", [&](const auto& x) { return ops::chosen_shares(x[0], ids); }, {normal({5, 6}, 1).abs() + 0.1}, 1e-5);
  const auto zeros = torch::zeros({5, 6}, torch::requires_grad());
  const auto shares = ops::chosen_shares(zeros, ids);
  shares.sum().backward();
  EXPECT_TRUE(torch::equal(shares, torch::zeros({5, 2})));
  EXPECT_TRUE(zeros.grad().isfinite().all().item<bool>());
}

TEST(Ops, Rope) {
  const auto angle = torch::arange(16, torch::kFloat32).unsqueeze(1) * torch::tensor({1.f, 0.1f, 0.01f}).unsqueeze(0);
  const auto positions = torch::tensor({0, 3, 7, 1, 2, 15}, torch::kInt64).view({2, 3});
  check("rope", [&](const auto& x) { return ops::rope(x[0], positions, angle.cos(), angle.sin()); }, {normal({2, 3, 2, 6}, 1)}, 1e-5);
  const auto golden_angle = torch::tensor({3.f, 0.03f}).view({1, 2});  // c = 4, theta = 1e4, position 3
  const auto q = torch::tensor({1.f, 2.f, 3.f, 4.f}).view({1, 1, 1, 4});
  EXPECT_TRUE(all_close(ops::rope(q, torch::zeros({1, 1}, torch::kInt64), golden_angle.cos(), golden_angle.sin()).flatten(),
                        torch::tensor({-1.413353, 1.879118, -2.828857, 4.058191}), 2e-6));
}

TEST(Ops, AttentionWithGroupsAndSegments) {
  const auto segment = torch::tensor({0, 0, 0, 1, 1, 1, 1, -1, 0, 0, 0, 2, 2, 2}, torch::kInt32).view({2, 7});
  for (const bool segments : {false, true})
    check("attention", [&](const auto& x) {
      return ops::attention(x[0], x[1], x[2], segments ? segment : torch::Tensor(), segments ? segment : torch::Tensor(), 0.4);
    }, {normal({2, 7, 4, 6}, 1), normal({2, 7, 2, 6}, 2), normal({2, 7, 2, 6}, 3)}, 1e-5);
}

TEST(Ops, AttentionReadsSlicesOfAFusedProjection) {
  const auto fused = normal({2, 9, 4 + 2 + 2, 8}, 1);
  const auto q = fused.slice(2, 0, 4), k = fused.slice(2, 4, 6), v = fused.slice(2, 6, 8);
  EXPECT_TRUE(torch::equal(ops::attention(q, k, v, {}, {}, 0.3), ops::attention(q.contiguous(), k.contiguous(), v.contiguous(), {}, {}, 0.3)));
}

TEST(Ops, CrossEntropyIgnoresItsMaskAndNamesForeignLabels) {
  const auto labels = torch::tensor({3, -100, 0, 10}, torch::kInt64);
  check("cross_entropy", [&](const auto& x) { return ops::cross_entropy(x[0], labels); }, {normal({4, 11}, 1) * 3}, 1e-5);
  EXPECT_EQ(ops::cross_entropy(normal({4, 11}, 1), labels)[1].item<float>(), 0);
  try {
    (void)ops::cross_entropy(normal({2, 5}, 1), torch::tensor({1, 5}, torch::kInt64));
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "token 1 of the batch is 5, the vocabulary has 5 tokens");
  }
}

TEST(Ops, RowsGoOutAndComeBack) {
  Routing routing{.choice = TokenChoice{torch::tensor({2, 0, 1, -1, 2, 1, 0, 2}, torch::kInt64).view({4, 2}), torch::ones({4, 2})}};
  GateInput in;
  in.hidden = torch::zeros({4, 1});
  const auto plan = plan_dispatch(routing, in, 3, {}, nullptr).plan;
  check("gather", [&](const auto& x) { return ops::gather_rows(x[0], plan); }, {normal({4, 5}, 1)}, 1e-6);
  check("combine", [&](const auto& x) { return ops::combine_rows(x[0], x[1], plan); }, {normal({7, 5}, 1), normal({4, 2}, 2)}, 1e-5);
  // combine(dispatch(x)) with weight 1 is x times the number of choices.
  const auto x = normal({4, 5}, 3);
  const auto times = torch::tensor({2.f, 1.f, 2.f, 2.f}).unsqueeze(1);
  EXPECT_TRUE(all_close(ops::combine_rows(ops::gather_rows(x, plan), torch::ones({4, 2}), plan), x * times, 1e-6));
}

TEST(Ops, DropoutKeepsTheMeanAndRepeatsItself) {
  const auto x = torch::ones({400, 300});
  const RandomStream stream(4, "dropout");
  const auto y = ops::dropout(x, 0.25, stream);
  EXPECT_TRUE(torch::equal(y, ops::dropout(x, 0.25, stream)));
  EXPECT_FALSE(torch::equal(y, ops::dropout(x, 0.25, stream.at("other"))));
  EXPECT_NEAR(y.mean().item<double>(), 1, 5 * std::sqrt(0.25 / 0.75 / 120000));
  EXPECT_TRUE(torch::equal(ops::dropout(x, 0, stream), x));
  check("dropout", [&](const auto& in) { return ops::dropout(in[0], 0.25, stream); }, {normal({9, 13}, 1)}, 1e-6);
}

TEST(ComputeScope, NestsAndRemembersTheForwardTypeForBackward) {
  EXPECT_EQ(ComputeScope::current(), ComputeType::float32);
  auto w = normal({64, 64}, 1).requires_grad_();
  const auto x = normal({32, 64}, 2);
  torch::Tensor y;
  {
    const ComputeScope bf16(ComputeType::bfloat16);
    {
      const ComputeScope f32(ComputeType::float32);
      EXPECT_EQ(ComputeScope::current(), ComputeType::float32);
    }
    EXPECT_EQ(ComputeScope::current(), ComputeType::bfloat16);
    y = ops::linear(x, w);
  }
  y.sum().backward();
  const auto rounded = x.to(torch::kBFloat16).to(torch::kFloat32).sum(0);  // dW = 1^T x with x rounded on its way in
  EXPECT_TRUE(all_close(w.grad()[0], rounded, 1e-6));
  EXPECT_FALSE(all_close(w.grad()[0], x.sum(0), 1e-6));
}

}  // namespace
}  // namespace switchyard
