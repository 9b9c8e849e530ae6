// Every expert, in order of id: the dense gate. A unit whose probability of an expert is no number does without it.
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class All final : public Selector {
 public:
  using Options = NoOptions;
  All(const Options&, const GateShape& s) : num_experts_(s.num_experts) {}
  Selection select(Scored& s) override {
    return {torch::arange(num_experts_, torch::kInt64).expand({s.probs.size(0), num_experts_}).masked_fill(s.probs.isnan(), -1)};
  }
  double experts_per_token() const override { return static_cast<double>(num_experts_); }

 private:
  int64_t num_experts_;
};

}  // namespace

SelectEntry select_all() { return plug_in<All, SelectEntry>("all", "doi:10.1162/neco.1991.3.1.79", "every expert"); }

}  // namespace switchyard::gates
