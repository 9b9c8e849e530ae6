#include "core/next_choice.h"

#include "core/ops.h"
#include "core/routing_groups.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <vector>

namespace switchyard {
namespace {

// One routing group: tokens [first, last).
struct Group {
  int64_t first, last, capacity;
};

void serve(const Group& g, const torch::Tensor& order, const torch::Tensor& ranked, int64_t num_experts, int64_t* ids, bool* kept) {
  const auto* turn = order.data_ptr<int64_t>();
  const auto tries = ranked.size(1);
  const auto* next = ranked.data_ptr<int64_t>();
  std::vector<int64_t> taken(static_cast<size_t>(num_experts), 0);
  for (int64_t t = g.first; t < g.last; ++t)
    if (kept[t]) ++taken[static_cast<size_t>(ids[t])];
  for (int64_t round = 1; round < tries; ++round)
    for (int64_t n = 0; n < g.last - g.first; ++n) {
      const int64_t t = g.first + turn[n];
      if (kept[t] || ids[t] < 0) continue;
      const int64_t e = next[t * tries + round];
      if (e < 0 || taken[static_cast<size_t>(e)] >= g.capacity) continue;
      ++taken[static_cast<size_t>(e)];
      ids[t] = e;
      kept[t] = true;
    }
}

}  // namespace

void try_next_choices(TokenChoice& choice, torch::Tensor& kept, const Scores& scores, const GateInput& input, int64_t num_experts,
                      const CapacityOptions& options, const Priority& priority) {
  if (choice.expert_ids.size(1) != 1 || !scores.probs.defined())
    fail(ErrorKind::config, "capacity: overflow = 'next_choice' needs a gate that chooses one expert per token by probability");
  const auto ranked = ops::top_k(scores.probs.detach(), options.tries);  // [T, tries]
  auto ids = choice.expert_ids.clone();
  for (const auto& part_of_call : routing_groups(input, ids.size(0), options.group_size, options.per_sequence)) {
    const Group group{part_of_call.first, part_of_call.last, capacity_of(options, part_of_call.tokens, 1, num_experts, input.training)};
    const auto cut = [&](const torch::Tensor& x) { return x.defined() ? x.slice(0, group.first, group.last) : x; };
    GateInput part = input;
    part.hidden = cut(input.hidden);
    part.first_token = input.first_token + group.first;
    const auto order = priority.order({cut(choice.expert_ids).contiguous(), cut(choice.weights)}, {cut(scores.logits), cut(scores.probs)}, part);
    serve(group, order.contiguous(), ranked, num_experts, ids.data_ptr<int64_t>(), kept.data_ptr<bool>());
  }
  const auto moved = ids != choice.expert_ids;
  choice.weights = at::where(moved, scores.probs.gather(1, ids.clamp_min(0)), choice.weights);
  choice.expert_ids = ids;
}

}  // namespace switchyard
