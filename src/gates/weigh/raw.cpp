// w = p[chosen]: the probabilities as they are (softmax, then top-k). The sum stays below 1, and every logit gets gradient
// through the denominator of the softmax (arXiv:2101.03961, OLMoE arXiv:2409.02060).
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class Raw final : public Weigher {
 public:
  using Options = NoOptions;
  Raw(const Options&, const GateShape&) {}
  torch::Tensor weigh(const Scored& s, const Selection& chosen) override { return chosen.gather(s.probs); }
};

}  // namespace

WeighEntry weigh_raw() { return plug_in<Raw, WeighEntry>("raw", "arXiv:2101.03961", "probabilities of the chosen as they are"); }

}  // namespace switchyard::gates
