// y = routed + shared: the shared experts are experts that are always chosen with weight 1 (DeepSeekMoE, arXiv:2401.06066
// equation 9; residual experts, arXiv:2201.05596 section 4.1).
#include "switchyard/join.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class Sum final : public Join {
 public:
  using Options = NoOptions;
  Sum(const Options&, const GateShape&) {}
  torch::Tensor join(const torch::Tensor& routed, const torch::Tensor& shared, const GateInput&, std::map<std::string, torch::Tensor>&) override {
    return routed + shared;
  }
};

}  // namespace

JoinEntry join_sum() { return plug_in<Sum, JoinEntry>("sum", "arXiv:2401.06066", "routed sum plus shared experts"); }

}  // namespace switchyard
