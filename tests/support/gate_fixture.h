// Gates for tests: chains whose logits are their input, fed with Fixture A (moe_oracle.h) or noise.
#pragma once

#include "support/moe_oracle.h"
#include "switchyard/gate.h"

#include <gtest/gtest.h>

namespace switchyard::testing {

inline std::shared_ptr<Gate> gate_of(ConfigNode::Table chain, int64_t d_model, int64_t num_experts) {
  return gate_registry().make(BlockSpec("chain", chain), GateShape{d_model, num_experts, 0, 1});
}

// d_model = E and the identity as router: the logits are the input.
inline std::shared_ptr<Gate> gate_on_logits(ConfigNode::Table chain, int64_t num_experts = 4) {
  auto gate = gate_of(std::move(chain), num_experts, num_experts);
  torch::NoGradGuard no_grad;
  gate->named_parameters()["score.weight"].copy_(at::eye(num_experts));
  return gate;
}

inline GateInput input_of(const torch::Tensor& hidden, bool training = false) {
  GateInput in;
  in.hidden = hidden;
  in.training = training;
  return in;
}

inline TokenChoice choose(Gate& gate, const torch::Tensor& hidden, bool training = false) {
  return std::get<TokenChoice>(gate.route(input_of(hidden, training)).choice);
}

inline torch::Tensor normal(torch::IntArrayRef shape, uint64_t seed) {
  auto x = torch::empty(shape);
  RandomStream(seed).fill_normal(x.data_ptr<float>(), x.numel());
  return x;
}

// Rows of ids, -1 = none.
inline torch::Tensor ids_of(std::vector<std::vector<int64_t>> rows) {
  std::vector<int64_t> flat;
  for (const auto& row : rows) flat.insert(flat.end(), row.begin(), row.end());
  return torch::tensor(flat, torch::kInt64).view({static_cast<int64_t>(rows.size()), -1});
}

// What one call of a gate leaves for losses and updates, every choice kept.
inline RoutingStats stats_of(Gate& gate, const GateInput& input, int64_t num_experts) {
  return routing_stats(gate.route(input), {}, input, /*layer=*/0, num_experts);
}

}  // namespace switchyard::testing
