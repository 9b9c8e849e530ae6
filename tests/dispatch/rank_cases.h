// Layers in small, split over ranks: who owns which tokens, and one pass forward and backward through a dispatcher.
#pragma once

#include "support/moe_oracle.h"
#include "switchyard/dispatcher.h"
#include "switchyard/expert_bank.h"

#include <ATen/ATen.h>

#include <limits>
#include <string>
#include <vector>

namespace switchyard::testing {

inline torch::Tensor noise(torch::IntArrayRef shape, uint64_t seed) {
  auto x = torch::empty(shape);
  RandomStream(seed).fill_normal(x.data_ptr<float>(), x.numel());
  return x;
}

// Consecutive, uneven ranges of T tokens: rank r owns bounds[r] .. bounds[r+1]-1. An idle first rank owns none.
inline std::vector<int64_t> token_bounds(int64_t tokens, int64_t ranks, bool first_is_idle) {
  std::vector<int64_t> bounds{0};
  const int64_t idle = first_is_idle && ranks > 1 ? 1 : 0;
  if (idle) bounds.push_back(0);
  for (int64_t r = 1; r <= ranks - idle; ++r) bounds.push_back(tokens * r * r / ((ranks - idle) * (ranks - idle)));
  return bounds;
}

inline constexpr int64_t kWidth = 10, kInner = 7;

inline std::shared_ptr<ExpertBank> bank_of(int64_t num_experts, std::pair<int64_t, int64_t> local, torch::ScalarType dtype) {
  const BankShape shape{.d_model = kWidth, .d_expert = kInner, .num_experts = num_experts, .first_expert = local.first,
                        .num_local_experts = local.second, .init_std = 0.5, .init_out_std = 0.5, .seed = 7};
  const std::shared_ptr<ExpertBank> bank = expert_registry().make("swiglu", shape);
  bank->to(dtype);
  return bank;
}

struct Pass {
  torch::Tensor y, dx, dweights, dw_in, dw_out;
};

// Forward and backward of sum(y * dy) with a decision made by hand; gradients that never came are zeros.
inline Pass pass_through(Dispatcher& dispatcher, ExpertBank& bank, const torch::Tensor& x_in, const Routing& routing, const torch::Tensor& dy,
                         int64_t num_experts, const CapacityOptions& capacity = {}, const Priority* priority = nullptr) {
  bank.zero_grad();
  auto x = x_in.detach().clone().requires_grad_();
  const auto* choice = std::get_if<TokenChoice>(&routing.choice);
  const auto given = choice ? choice->weights : std::get<ExpertChoice>(routing.choice).weights;
  auto weights = given.detach().to(x.scalar_type()).clone().requires_grad_();
  GateInput input;
  input.hidden = x;
  input.training = true;
  const auto plan = plan_dispatch(routing, input, num_experts, capacity, priority).plan;
  const auto sent = dispatcher.dispatch(x, plan);
  const auto y = dispatcher.combine(bank.forward(sent.rows, sent.offsets, {.row_token = {}, .training = true}), *sent.ticket, weights);
  (y * dy).sum().backward();
  const auto grad = [](const torch::Tensor& v) { return v.grad().defined() ? v.grad() : torch::zeros_like(v); };
  const auto p = bank.named_parameters();
  return {y.detach(), grad(x), grad(weights), grad(p["w_in"]), grad(p["w_out"])};
}

// The passes of all ranks as one: their tokens and their experts in order.
inline Pass joined(const std::vector<Pass>& parts) {
  const auto all = [&](auto member) {
    std::vector<torch::Tensor> list;
    for (const auto& p : parts) list.push_back(p.*member);
    return at::cat(list, 0);
  };
  return {all(&Pass::y), all(&Pass::dx), all(&Pass::dweights), all(&Pass::dw_in), all(&Pass::dw_out)};
}

}  // namespace switchyard::testing
