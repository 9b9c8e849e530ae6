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
  // The same for rules that also ask who was chosen; what the layer calls.
  [[nodiscard]] virtual torch::Tensor join_chosen(const torch::Tensor& routed, const torch::Tensor& shared, const GateInput& input, const Routing& /*routing*/,
                                                  std::map<std::string, torch::Tensor>& terms) {
    return join(routed, shared, input, terms);
  }
  // False for rules that add a path of their own and also work without shared experts (`shared` is then undefined).
  [[nodiscard]] virtual bool needs_shared() const { return true; }
  // Parts that the joins of all layers have in common: takes those of `first`, the join of the first such layer, for its own.
  virtual void share(Join& /*first*/) {}
  [[nodiscard]] virtual int64_t common_parameters() const { return 0; }  // of such parts, counted once per model
};

using JoinEntry = PlugIn<Join, GateShape>;
Registry<JoinEntry>& join_registry();

}  // namespace switchyard
