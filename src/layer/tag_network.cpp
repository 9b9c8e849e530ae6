#include "layer/tag_network.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <c10/core/GradMode.h>

namespace switchyard {
namespace {

struct TagPlan {
  torch::Tensor ids, weights;  // [k], as the tokens of the tag choose them: best first
  bool merges = false;         // the gate averages parameters
};

// Two tokens that have nothing in common.
GateInput two_tokens(int64_t d_model) {
  GateInput in;
  in.hidden = at::cat({torch::zeros({1, d_model}), torch::arange(d_model).to(torch::kFloat32).unsqueeze(0)});
  in.sequence_ids = in.token_ids = torch::arange(2, torch::kInt64);
  return in;
}

bool asks_for_tags(MoELayer& layer) {
  try {
    (void)layer.gate().route(two_tokens(layer.options().d_model));
  } catch (const Error& error) {
    return error.kind() == ErrorKind::usage;
  }
  return false;
}

TagPlan plan_of_tag(MoELayer& layer, int64_t tag) {
  const auto& o = layer.options();
  const auto refuse = [&](const char* why) {
    fail(ErrorKind::unsupported, "gate '{}' in layers.{}.ffn: tag {} has no experts of its own, {}", o.gate.kind, o.layer, tag, why);
  };
  if (o.communicator && o.communicator->size() > 1) refuse("experts live on several ranks");
  auto in = two_tokens(o.d_model);
  in.tags = torch::full({2}, tag, torch::kInt64);
  const auto routing = layer.gate().route(in);
  torch::Tensor ids, weights;  // [2, k]
  if (const auto* choice = std::get_if<TokenChoice>(&routing.choice)) {
    ids = choice->expert_ids;
    weights = choice->weights;
  } else if (const auto* mix = std::get_if<ExpertMix>(&routing.choice)) {
    ids = torch::arange(o.num_experts, torch::kInt64).expand({2, o.num_experts});
    weights = mix->weights.index_select(0, mix->group_of);
  } else {
    refuse("it neither chooses experts per token nor averages them");
  }
  if (!ids[0].equal(ids[1]) || !weights[0].equal(weights[1])) refuse("the plan depends on the content of tokens");
  const auto sent = (ids[0] >= 0).nonzero().squeeze(1);
  return {ids[0].index_select(0, sent), weights[0].index_select(0, sent), std::holds_alternative<ExpertMix>(routing.choice)};
}

// A layer of `count` experts; parameters of the bank are what `pick` makes of those of `layer`.
template <class Pick> std::shared_ptr<MoELayer> small_layer(MoELayer& layer, int64_t count, const BlockSpec& gate, const Pick& pick) {
  auto o = layer.options();
  if (!layer.experts().separable())
    fail(ErrorKind::unsupported, "layers.{}.ffn: an expert of this bank is no part of its own, so that none can be taken out", o.layer);
  o.num_experts = count;
  o.gate = gate;
  o.capacity = {};
  o.losses = {};
  o.dispatcher = "local";
  o.communicator = nullptr;
  o.init_std = o.init_out_std = 0;
  auto out = std::make_shared<MoELayer>(o);
  auto to = out->experts().named_parameters();
  for (const auto& item : layer.experts().named_parameters()) to[item.key()].copy_(item.key().rfind("shared.", 0) == 0 ? item.value() : pick(item.value()));
  if (layer.shared_experts()) {
    auto shared = out->shared_experts()->named_parameters();
    for (const auto& item : layer.shared_experts()->named_parameters()) shared[item.key()].copy_(item.value());
  }
  if (layer.join()) {
    auto join = out->join()->named_parameters();
    for (const auto& item : layer.join()->named_parameters()) {
      if (item.value().sizes() != join[item.key()].sizes())
        fail(ErrorKind::unsupported, "layers.{}.ffn: its join '{}' has {} for every expert, so that none can be taken out", o.layer, o.join.kind, item.key());
      join[item.key()].copy_(item.value());
    }
  }
  return out;
}

}  // namespace

std::shared_ptr<MoELayer> experts_of_tag(MoELayer& layer, int64_t tag) {
  const c10::NoGradGuard no_grad;
  const auto plan = plan_of_tag(layer, tag);
  if (plan.merges) fail(ErrorKind::unsupported, "layers.{}.ffn averages the parameters of experts: take merged_expert_of_tag", layer.options().layer);
  // In the order of choice, which is the order in which outputs are summed.
  const auto out = small_layer(layer, plan.ids.size(0), "fixed", [&](const torch::Tensor& p) { return p.index_select(0, plan.ids); });
  out->gate().named_buffers()["weights"].copy_(plan.weights);
  return out;
}

std::shared_ptr<MoELayer> merged_expert_of_tag(MoELayer& layer, int64_t tag) {
  const c10::NoGradGuard no_grad;
  const auto plan = plan_of_tag(layer, tag);
  return small_layer(layer, 1, "fixed", [&](const torch::Tensor& p) {
    return at::matmul(plan.weights.unsqueeze(0), p.index_select(0, plan.ids).flatten(1)).view_as(p.slice(0, 0, 1));
  });
}

std::shared_ptr<MoELayer> network_of_tag(MoELayer& layer, int64_t tag) {
  const c10::NoGradGuard no_grad;
  const bool merges = plan_of_tag(layer, tag).merges;
  if (!asks_for_tags(layer))
    fail(ErrorKind::unsupported, "gate '{}' in layers.{}.ffn does not go by tags: no experts belong to tag {}", layer.options().gate.kind, layer.options().layer, tag);
  return merges ? merged_expert_of_tag(layer, tag) : experts_of_tag(layer, tag);
}

std::shared_ptr<MoELayer> with_experts(MoELayer& layer, const std::vector<int64_t>& experts) {
  const c10::NoGradGuard no_grad;
  const auto& o = layer.options();
  if (o.communicator && o.communicator->size() > 1) fail(ErrorKind::unsupported, "layers.{}.ffn: experts live on several ranks", o.layer);
  ConfigNode::Array names(experts.begin(), experts.end());
  const BlockSpec gate = {"subset", {{"gate", write_any(o.gate)}, {"of", o.num_experts}, {"experts", names}}};
  const auto ids = torch::tensor(experts, torch::kInt64);
  const auto out = small_layer(layer, ids.size(0), gate, [&](const torch::Tensor& p) { return p.index_select(0, ids); });
  auto to = out->gate().named_parameters(), buffers = out->gate().named_buffers();
  for (const auto& item : layer.gate().named_parameters()) to["gate." + item.key()].copy_(item.value());
  for (const auto& item : layer.gate().named_buffers()) buffers["gate." + item.key()].copy_(item.value());
  return out;
}

std::vector<int64_t> experts_used(const RoutingStats& stats, int64_t tag, double share) {
  if (!stats.expert_ids.defined() || !stats.tags.defined()) fail(ErrorKind::usage, "experts_used: layer {} has no tokens with tags that choose experts", stats.layer);
  const auto ids = stats.expert_ids.index({stats.tags == tag}).reshape({-1}) + 1;
  const auto counts = at::bincount(ids, {}, stats.num_experts + 1).slice(0, 1);
  const double all = counts.sum().item<double>();
  std::vector<int64_t> out;
  for (int64_t e = 0; e < stats.num_experts; ++e)
    if (const auto n = counts[e].item<double>(); n > 0 && n >= share * all) out.push_back(e);
  return out;
}

}  // namespace switchyard
