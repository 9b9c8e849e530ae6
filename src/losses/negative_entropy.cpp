// L = -mean entropy of p_t: a small weight keeps a gate that draws its expert from settling too early (arXiv:2202.01169).
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class NegativeEntropy final : public LossTerm {
 public:
  using Options = NoOptions;
  explicit NegativeEntropy(const Options&) {}
  torch::Tensor value(const RoutingStats& s) const override {
    if (!s.scores.probs.defined()) fail(ErrorKind::config, "loss negative_entropy: the gate of layer {} has no probabilities", s.layer);
    if (s.num_tokens == 0) return s.scores.probs.sum();
    return (s.scores.probs * s.scores.probs.clamp_min(1e-30).log()).sum(-1).mean();
  }
};

}  // namespace

LossEntry loss_negative_entropy() {
  return plug_in<NegativeEntropy, LossEntry>("negative_entropy", "arXiv:2202.01169", "minus the entropy of the gate");
}

}  // namespace switchyard
