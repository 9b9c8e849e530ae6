// w = softmax over the chosen logits (top-k, then softmax: arXiv:1701.06538 equations 3 to 5). The same numbers as
// `renormalise` after a softmax, without forming the probabilities of the others; also right after another normaliser.
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <limits>

namespace switchyard::gates {
namespace {

class SoftmaxChosen final : public Weigher {
 public:
  using Options = NoOptions;
  SoftmaxChosen(const Options&, const GateShape&) {}
  torch::Tensor weigh(const Scored& s, const Selection& chosen) override {
    if (chosen.by_column) fail(ErrorKind::config, "weigh softmax_chosen: needs units that choose experts, not experts that choose units");
    const auto none = chosen.ids < 0;
    const auto z = s.noisy.gather(1, chosen.ids.clamp_min(0)).masked_fill(none, -std::numeric_limits<float>::infinity());
    return ops::softmax(z).masked_fill(none, 0);  // a row of nobody may be NaN
  }
  bool constant_for_one() const override { return true; }
};

}  // namespace

WeighEntry weigh_softmax_chosen() {
  return plug_in<SoftmaxChosen, WeighEntry>("softmax_chosen", "arXiv:1701.06538", "softmax over the chosen logits");
}

}  // namespace switchyard::gates
