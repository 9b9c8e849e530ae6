// How the always-on path of a layer, its shared experts, meets the routed sum.
#pragma once

#include "switchyard/gate.h"

#include <map>
#include <string>

namespace switchyard {

class Join : public torch::nn::Module {
 public:
  // routed, shared [T, d] -> [T, d]: the weighted sum over chosen experts, and what the shared experts made of the same tokens
  // (input.hidden). What losses want to know goes into `terms` (RoutingStats::terms).
  [[nodiscard]] virtual torch::Tensor join(const torch::Tensor& routed, const torch::Tensor& shared, const GateInput& input,
                                           std::map<std::string, torch::Tensor>& terms) = 0;
};

using JoinEntry = PlugIn<Join, GateShape>;
Registry<JoinEntry>& join_registry();

}  // namespace switchyard
