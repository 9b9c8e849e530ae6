// w = p[chosen] / sum p[chosen]: weights sum to 1. Equal to a softmax over the chosen logits alone (top-k, then softmax);
// only the chosen logits get gradient from the task loss (arXiv:1701.06538, Mixtral arXiv:2401.04088).
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class Renormalise final : public Weigher {
 public:
  using Options = NoOptions;
  Renormalise(const Options&, const GateShape&) {}
  torch::Tensor weigh(const Scored& s, const Selection& chosen) override { return chosen.shares(s.probs); }
  bool constant_for_one() const override { return true; }
};

}  // namespace

WeighEntry weigh_renormalise() {
  return plug_in<Renormalise, WeighEntry>("renormalise", "arXiv:2401.04088", "probabilities of the chosen over their sum");
}

}  // namespace switchyard::gates
