// Published gates at one size: every recipe of recipes/gates as a layer of 64 SwiGLU experts, and the tokens it routes.
//
// Gate, capacity, losses and routed_scale are those of the recipe; sizes and experts are the bench's. Experts are one bank that
// all layers share: its 200 million weights need not be drawn again for every gate.
#pragma once

#include "core/registries.h"
#include "steps/recipe.h"
#include "switchyard/error.h"
#include "switchyard/moe.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace switchyard::bench {

inline constexpr int64_t kWidth = 1024, kExperts = 64, kSequence = 128, kTags = 4, kVocab = 257;

// A recipe whose own numbers do not divide 64 experts: what is asked of it instead.
inline std::vector<std::string> adapted(const std::string& id) {
  std::vector<std::string> out = {"model.moe.num_experts=" + std::to_string(kExperts)};
  if (id == "pangu-sigma-rre") out.emplace_back("model.moe.gate.groups=4");  // 5 groups do not divide 64 experts
  return out;
}

// The bank of all layers under the name "shared_swiglu".
inline void register_shared_bank() {
  const auto swiglu = expert_registry().find("swiglu");
  auto shared = swiglu;
  shared.name = "shared_swiglu";
  shared.make = [swiglu, bank = std::make_shared<std::shared_ptr<ExpertBank>>()](const ConfigNode& options, const BankShape& shape) {
    if (!*bank) *bank = swiglu.make(options, shape);
    return *bank;
  };
  expert_registry().add(std::move(shared));
}

struct GateCase {
  std::string id;
  MoEOptions options;
  std::shared_ptr<MoELayer> layer;
  std::shared_ptr<Priority> priority;
  std::shared_ptr<AuxLosses> losses;
};

// [model.moe] with 64 experts, or the gate and the losses of the first mixture at a site.
inline MoESpec routed_part(const std::filesystem::path& recipe) {
  const ModelSpec model = load_recipe(recipe).model;
  if (model.moe) return *load_recipe(recipe, adapted(recipe.stem().string())).model.moe;
  if (model.mixtures.empty()) fail(ErrorKind::config, "it has neither [model.moe] nor [[model.mixtures]]");
  MoESpec out;
  out.num_experts = kExperts;
  out.gate = model.mixtures[0].gate;
  out.losses = model.mixtures[0].losses;
  return out;
}

inline GateCase gate_case(const std::filesystem::path& recipe) {
  GateCase c{.id = recipe.stem().string(), .options = {}, .layer = nullptr, .priority = nullptr, .losses = nullptr};
  const MoESpec moe = routed_part(recipe);
  std::vector<LossSpec> losses;
  for (const auto& loss : moe.losses)
    if (loss.kind != "routed_budget") losses.push_back(read_loss(loss));  // of the join, which is no part of routing
  c.options = {.d_model = kWidth, .d_expert = kWidth, .num_experts = moe.num_experts, .gate = moe.gate, .experts = "shared_swiglu",
               .routed_scale = moe.routed_scale, .capacity = moe.capacity, .losses = losses};
  c.layer = std::make_shared<MoELayer>(c.options);
  c.priority = priority_registry().make(c.options.capacity.priority);
  c.losses = std::make_shared<AuxLosses>(losses);
  return c;
}

// Tokens N(0, 1); skewed ones share a direction, so that every router prefers some experts. Sequences of 128, a tag for each.
inline GateInput tokens(int64_t count, bool training, double skew = 0) {
  GateInput in;
  in.random = RandomStream(7, "gates bench");
  in.training = training;
  in.hidden = torch::empty({count, kWidth}, torch::kFloat32);
  in.random.at("hidden").fill_normal(in.hidden.data_ptr<float>(), in.hidden.numel());
  if (skew > 0) {
    auto direction = torch::empty({kWidth}, torch::kFloat32);
    in.random.at("direction").fill_normal(direction.data_ptr<float>(), kWidth);
    in.hidden += skew * direction;
  }
  in.token_ids = torch::empty({count}, torch::kInt64);
  for (int64_t t = 0; t < count; ++t)  // Zipf-like, as in text
    in.token_ids.data_ptr<int64_t>()[t] = static_cast<int64_t>(std::pow(kVocab, in.random.at("id").uniform(static_cast<uint64_t>(t)))) - 1;
  const auto place = torch::arange(count, torch::kInt64);
  in.sequence_ids = at::floor_divide(place, kSequence);
  in.positions = at::remainder(place, kSequence);
  in.tags = at::remainder(in.sequence_ids, kTags);
  return in;
}

struct Decision {
  Routing routing;
  DispatchPlan plan;
};

// What the layer does before and after its experts: the decision, the plan, statistics, losses.
inline Decision plan_of(const GateCase& c, Routing routing, const GateInput& in) {
  const bool rows = std::holds_alternative<TokenChoice>(routing.choice) || std::holds_alternative<ExpertChoice>(routing.choice);
  if (!rows) return {std::move(routing), {}};
  auto planned = plan_dispatch(std::move(routing), in, c.options.num_experts, c.options.capacity, c.priority.get());
  return {std::move(planned.routing), std::move(planned.plan)};
}

inline Decision decide(const GateCase& c, const GateInput& in) { return plan_of(c, c.layer->gate().route(in), in); }

// The sum of the weighted losses, as a training step asks for it.
inline torch::Tensor loss_of(const GateCase& c, RoutingStats stats) {
  stats.token_loss = torch::ones({stats.num_tokens});  // for gates that learn by reward
  return (*c.losses)({&stats, 1}).total;
}
inline torch::Tensor loss_of(const GateCase& c, const Decision& d, const GateInput& in) {
  return loss_of(c, routing_stats(d.routing, d.plan.kept, in, 0, c.options.num_experts, d.plan.wanted));
}

// What the weights of a decision are, whatever its shape: where the task loss enters on the way back.
inline torch::Tensor weights_of(const Routing& routing) {
  if (const auto* choice = std::get_if<TokenChoice>(&routing.choice)) return choice->weights;
  if (const auto* choice = std::get_if<ExpertChoice>(&routing.choice)) return choice->weights;
  if (const auto* mix = std::get_if<ExpertMix>(&routing.choice)) return mix->weights;
  const auto& slots = std::get<SoftSlots>(routing.choice);
  return slots.dispatch + slots.combine;
}

}  // namespace switchyard::bench
