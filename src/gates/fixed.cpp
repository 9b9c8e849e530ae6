// Every token goes to all experts of the layer with the same weights, which are a buffer: no router, nothing is scored. What
// is left of a gate once the experts of one tag are a network of their own (layer/tag_network.h, arXiv:2110.03742 section 3).
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class FixedGate final : public Gate {
 public:
  using Options = NoOptions;

  FixedGate(const Options&, const GateShape& s) : num_experts_(s.num_experts) {
    weights_ = register_buffer("weights", torch::full({num_experts_}, 1.0 / static_cast<double>(num_experts_)));
  }

  Routing route(const GateInput& input) override {
    const int64_t tokens = input.hidden.size(0);
    return {.choice = TokenChoice{torch::arange(num_experts_, torch::kInt64).expand({tokens, num_experts_}).contiguous(),
                                  weights_.expand({tokens, num_experts_}).contiguous()}};
  }
  double experts_per_token() const override { return static_cast<double>(num_experts_); }

 private:
  int64_t num_experts_;
  torch::Tensor weights_;  // [E]
};

}  // namespace

GateEntry gate_fixed() { return plug_in<FixedGate, GateEntry>("fixed", "arXiv:2110.03742", "every expert, with weights that nothing changes"); }

}  // namespace switchyard
