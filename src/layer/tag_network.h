// When the plan of a layer is constant per tag (a task, a language, a vector of attributes), the experts of one tag are a
// small layer of their own: it needs no router, no other experts and no communication.
#pragma once

#include "switchyard/moe.h"

#include <memory>
#include <vector>

namespace switchyard {

// The K experts that `layer` gives to tokens of `tag` outside training, best first, behind the gate `fixed`. Its output is
// bit for bit that of `layer`. Source: TaskMoE, arXiv:2110.03742 section 3.
// Throws Error{unsupported} when the plan depends on the content of a token, or experts live on several ranks.
[[nodiscard]] std::shared_ptr<MoELayer> experts_of_tag(MoELayer& layer, int64_t tag);

// The same as one expert of averaged parameters, sum_i w_i theta_i. Equal for linear experts (arXiv:2206.04674 section 3.2)
// and for layers with combine = "parameters"; another function for anything else.
[[nodiscard]] std::shared_ptr<MoELayer> merged_expert_of_tag(MoELayer& layer, int64_t tag);

// The one or the other, as the layer combines its experts. Throws Error{unsupported} also for a gate that asks for no tags:
// one that draws or knows a single plan has none for this tag.
[[nodiscard]] std::shared_ptr<MoELayer> network_of_tag(MoELayer& layer, int64_t tag);

// For gates that choose per token: `layer` with the named experts alone, behind the gate `subset`. Tokens that choose only
// these get the same output, others lose what is missing. `experts_used` tells which ones a task is worth keeping for.
[[nodiscard]] std::shared_ptr<MoELayer> with_experts(MoELayer& layer, const std::vector<int64_t>& experts);

// The experts that get at least `share` of the (token, choice) pairs of `tag` in `stats`, in order of their ids.
[[nodiscard]] std::vector<int64_t> experts_used(const RoutingStats& stats, int64_t tag, double share = 0.05);

}  // namespace switchyard
