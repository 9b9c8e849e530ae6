#include "eval/expert_shares.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

// Adds values[i] to [row[i], column[i]] of a zero matrix, pairs with a negative row or column left out.
torch::Tensor scatter(const torch::Tensor& row, const torch::Tensor& column, const torch::Tensor& values, int64_t rows, int64_t columns) {
  const auto real = (row >= 0).logical_and(column >= 0);
  const auto flat = (row * columns + column).masked_select(real);
  return torch::zeros({rows * columns}, torch::kFloat32).index_add_(0, flat, values.masked_select(real)).view({rows, columns});
}

// Token and expert choice as pairs (token, expert, weight).
struct Pairs {
  torch::Tensor token, expert, weight;
};

Pairs pairs_of(const TokenChoice& choice) {
  const auto token = at::arange(choice.expert_ids.size(0), torch::kInt64).unsqueeze(1).expand_as(choice.expert_ids);
  return {token.reshape({-1}), choice.expert_ids.reshape({-1}), choice.weights.detach().to(torch::kFloat32).reshape({-1})};
}

Pairs pairs_of(const ExpertChoice& choice) {
  const auto expert = at::arange(choice.token_ids.size(0), torch::kInt64).unsqueeze(1).expand_as(choice.token_ids);
  return {choice.token_ids.reshape({-1}), expert.reshape({-1}), choice.weights.detach().to(torch::kFloat32).reshape({-1})};
}

struct Shares {
  int64_t tokens, experts;
  bool count;  // 1 per pair instead of its weight

  torch::Tensor of(const Pairs& p) const { return scatter(p.token, p.expert, count ? at::ones_like(p.weight) : p.weight, tokens, experts); }
  torch::Tensor operator()(const TokenChoice& choice) const { return of(pairs_of(choice)); }
  torch::Tensor operator()(const ExpertChoice& choice) const { return of(pairs_of(choice)); }
  torch::Tensor operator()(const SoftSlots& slots) const { return slots.combine.detach().view({tokens, experts, -1}).sum(-1); }
  torch::Tensor operator()(const ExpertMix& mix) const {
    const auto none = torch::zeros({1, experts}, mix.weights.options().requires_grad(false));  // of padding, which has no group
    return at::cat({mix.weights.detach(), none}).index_select(0, at::where(mix.group_of >= 0, mix.group_of, torch::full({}, mix.weights.size(0), torch::kInt64)));
  }
};

}  // namespace

torch::Tensor expert_weights(const Routing& routing, int64_t num_tokens, int64_t num_experts) {
  return std::visit(Shares{num_tokens, num_experts, false}, routing.choice);
}

torch::Tensor expert_choices(const Routing& routing, int64_t num_tokens, int64_t num_experts) {
  return std::visit(Shares{num_tokens, num_experts, true}, routing.choice);
}

}  // namespace switchyard
