// w = p[chosen] / stop(sum p[chosen]): weights sum to 1, and the sum is a constant to the gradient, so that one choice alone still teaches the
// router. Source: MoA, arXiv:2210.05144 section 3.1.
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class RenormaliseDetached final : public Weigher {
 public:
  using Options = NoOptions;
  RenormaliseDetached(const Options&, const GateShape&) {}
  torch::Tensor weigh(const Scored& s, const Selection& chosen) override {
    const auto p = chosen.gather(s.probs);
    return p / chosen.sum_of_unit(p, s.probs.size(0)).clamp_min(1e-20).detach();
  }
};

}  // namespace

WeighEntry weigh_renormalise_detached() {
  return plug_in<RenormaliseDetached, WeighEntry>("renormalise_detached", "arXiv:2210.05144", "over their sum, which is a constant to the gradient");
}

}  // namespace switchyard::gates
