// From choices to sorted rows: capacity group by group, what becomes of those who find no place, and a stable counting sort
// by expert (token order inside an expert). Capacity: arXiv:2006.16668 section 2.2.
#include "switchyard/dispatch_plan.h"

#include "core/device_capacity.h"
#include "core/next_choice.h"
#include "core/routing_groups.h"
#include "kernels/routing.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

torch::Tensor empty_ids(int64_t n) { return torch::empty({n}, torch::kInt64); }

const uint8_t* flags(const torch::Tensor& kept) { return kept.defined() ? reinterpret_cast<const uint8_t*>(kept.data_ptr<bool>()) : nullptr; }

// The kept choices [T, k], sorted by expert.
DispatchPlan sort_choices(const torch::Tensor& ids, const torch::Tensor& kept, int64_t num_experts) {
  const auto tokens = ids.size(0), k = ids.size(1);
  DispatchPlan plan{.offsets = empty_ids(num_experts + 1), .row_of_pair = empty_ids(tokens * k), .kept = kept, .num_tokens = tokens, .top_k = k};
  auto row_token = empty_ids(tokens * k), row_pair = empty_ids(tokens * k);
  const int64_t rows = kernels::plan_counting_sort(tokens, k, num_experts, ids.data_ptr<int64_t>(), flags(kept), row_token.data_ptr<int64_t>(),
                                                   row_pair.data_ptr<int64_t>(), plan.row_of_pair.data_ptr<int64_t>(), plan.offsets.data_ptr<int64_t>());
  plan.row_token = row_token.slice(0, 0, rows);
  plan.row_weight_index = row_pair.slice(0, 0, rows);
  return plan;
}

// Expert choice lists tokens per expert already: rows are its non-empty places in order.
DispatchPlan list_columns(const ExpertChoice& choice, int64_t num_tokens) {
  const auto experts = choice.token_ids.size(0), places = choice.token_ids.size(1);
  const auto ids = choice.token_ids.contiguous();
  const auto* token = ids.data_ptr<int64_t>();
  DispatchPlan plan{.offsets = empty_ids(experts + 1), .row_of_pair = torch::full({experts * places}, -1, torch::kInt64), .num_tokens = num_tokens};
  auto row_token = empty_ids(experts * places), row_pair = empty_ids(experts * places);
  int64_t rows = 0;
  for (int64_t e = 0; e < experts; ++e) {
    plan.offsets.data_ptr<int64_t>()[e] = rows;
    for (int64_t c = e * places; c < (e + 1) * places; ++c) {
      if (token[c] < 0) continue;
      row_token.data_ptr<int64_t>()[rows] = token[c];
      row_pair.data_ptr<int64_t>()[rows] = c;
      plan.row_of_pair.data_ptr<int64_t>()[c] = rows++;
    }
  }
  plan.offsets.data_ptr<int64_t>()[experts] = rows;
  plan.row_token = row_token.slice(0, 0, rows);
  plan.row_weight_index = row_pair.slice(0, 0, rows);
  return plan;
}

// Which pairs get a place, group by group.
torch::Tensor places(const TokenChoice& choice, const Scores& scores, const GateInput& input, int64_t num_experts,
                     const CapacityOptions& o, const Priority& priority) {
  const auto ids = choice.expert_ids;
  const auto tokens = ids.size(0), k = ids.size(1);
  auto kept = torch::zeros({tokens, k}, torch::kBool);
  for (const auto& [first, last, counted] : routing_groups(input, tokens, o.group_size, o.per_sequence)) {
    const auto cut = [first = first, last = last](const torch::Tensor& x) { return x.defined() ? x.slice(0, first, last) : x; };
    const TokenChoice part{cut(ids).contiguous(), cut(choice.weights)};
    GateInput part_input = input;
    part_input.hidden = cut(input.hidden);
    part_input.first_token = input.first_token + first;
    const auto order = priority.order(part, {cut(scores.logits), cut(scores.probs)}, part_input).contiguous();
    kernels::assign_slots(last - first, k, num_experts, part.expert_ids.data_ptr<int64_t>(), order.data_ptr<int64_t>(),
                          capacity_of(o, counted, k, num_experts, input.training),
                          reinterpret_cast<uint8_t*>(kept.data_ptr<bool>()) + first * k);
  }
  return kept;
}

// Weights of the kept choices of a token sum to what those of all its choices did: 1, or less where a gate scales them in evaluation.
torch::Tensor renormalised(const torch::Tensor& weights, const torch::Tensor& kept) {
  const auto w = weights * kept.to(weights.scalar_type());
  return w * (weights.sum(-1, /*keepdim=*/true) / w.sum(-1, /*keepdim=*/true).clamp_min(1e-20));
}

}  // namespace

int64_t capacity_of(const CapacityOptions& o, int64_t tokens, int64_t top_k, int64_t num_experts, bool training) {
  const double factor = training ? o.factor : o.eval_factor;
  if (const int64_t fixed = training ? o.rows : o.eval_rows; fixed > 0) return std::max(o.min_capacity, fixed);
  const int64_t choices = o.counts_k ? top_k : 1;
  if (o.rounding == "ceil_per_choice")
    return std::max(o.min_capacity, choices * static_cast<int64_t>(std::ceil(factor * static_cast<double>(tokens) / static_cast<double>(num_experts) - 1e-9)));
  const double rows = factor * static_cast<double>(tokens) * static_cast<double>(choices) / static_cast<double>(num_experts);
  if (o.rounding != "ceil" && o.rounding != "floor" && o.rounding != "round" && o.rounding != "floor_even")
    fail(ErrorKind::config, "capacity: rounding = '{}', expected ceil, floor, round, floor_even or ceil_per_choice", o.rounding);
  // The guard keeps 1.25 * 2 * 8 / 4 = 5.000000000000001 from becoming 6.
  const double rounded = o.rounding == "ceil" ? std::ceil(rows - 1e-9) : o.rounding == "round" ? std::nearbyint(rows) : std::floor(rows + 1e-9);
  const auto whole = static_cast<int64_t>(rounded);
  return std::max(o.min_capacity, o.rounding == "floor_even" ? whole + whole % 2 : whole);
}

Planned plan_dispatch(Routing routing, const GateInput& input, int64_t num_experts, const CapacityOptions& options, const Priority* priority) {
  if (const auto* columns = std::get_if<ExpertChoice>(&routing.choice)) {
    auto plan = list_columns(*columns, input.hidden.size(0));
    return {std::move(routing), std::move(plan)};
  }
  auto* choice = std::get_if<TokenChoice>(&routing.choice);
  if (!choice) fail(ErrorKind::internal, "plan_dispatch: soft slots and expert mixes have no rows to plan");
  choice->expert_ids = choice->expert_ids.contiguous();
  const bool dropless = !options.limits(input.training);
  if (dropless) {
    auto plan = sort_choices(choice->expert_ids, {}, num_experts);
    plan.kept = choice->expert_ids >= 0;
    return {std::move(routing), std::move(plan)};
  }
  if (options.devices > 0) {
    auto plan = sort_choices(choice->expert_ids, places_on_devices(*choice, routing.scores, input, num_experts, options), num_experts);
    if (options.renorm_after_drop) choice->weights = renormalised(choice->weights, plan.kept);
    return {std::move(routing), std::move(plan)};
  }
  if (!priority) fail(ErrorKind::internal, "plan_dispatch: a capacity factor needs a priority");
  auto kept = places(*choice, routing.scores, input, num_experts, options, *priority);
  const auto wanted = options.overflow == "next_choice" ? choice->expert_ids : torch::Tensor();
  if (wanted.defined()) try_next_choices(*choice, kept, routing.scores, input, num_experts, options, *priority);
  if (options.renorm_after_drop) choice->weights = renormalised(choice->weights, kept);
  auto plan = sort_choices(choice->expert_ids, kept, num_experts);
  plan.wanted = wanted;
  return {std::move(routing), std::move(plan)};
}

}  // namespace switchyard
