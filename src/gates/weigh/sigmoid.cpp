// w = sigmoid(z[chosen]): how much the expert adds, without competition (BASE, arXiv:2103.16716; S-BASE codes for k = 1).
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class SigmoidWeight final : public Weigher {
 public:
  using Options = NoOptions;
  SigmoidWeight(const Options&, const GateShape&) {}
  torch::Tensor weigh(const Scored& s, const Selection& chosen) override { return chosen.gather(at::sigmoid(s.noisy)); }
};

}  // namespace

WeighEntry weigh_sigmoid() { return plug_in<SigmoidWeight, WeighEntry>("sigmoid", "arXiv:2103.16716", "sigmoid of the chosen logits"); }

}  // namespace switchyard::gates
