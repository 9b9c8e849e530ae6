// First come, first served: token order (GShard, arXiv:2006.16668; Switch, arXiv:2101.03961). Late tokens are dropped first.
#include "core/registries.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class Arrival final : public Priority {
 public:
  using Options = NoOptions;
  explicit Arrival(const Options&) {}
  torch::Tensor order(const TokenChoice& choice, const Scores&, const GateInput&) const override {
    return torch::arange(choice.expert_ids.size(0), torch::kInt64);
  }
  bool looks_ahead() const override { return false; }
};

}  // namespace

PriorityEntry priority_arrival() { return plug_in<Arrival, PriorityEntry>("arrival", "arXiv:2006.16668", "token order"); }

}  // namespace switchyard
