// Router z-loss:  L = (1/T) sum_t logsumexp_e(z_te)^2,  dL/dz = (2/T) lse_t p_t.  Keeps logits small; on logits before
// noise. Source: ST-MoE, arXiv:2202.08906 equation 5.
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class RouterZ final : public LossTerm {
 public:
  using Options = NoOptions;
  explicit RouterZ(const Options&) {}
  torch::Tensor value(const RoutingStats& s) const override {
    if (!s.scores.logits.defined()) fail(ErrorKind::config, "loss router_z: the gate of layer {} has no logits", s.layer);
    if (s.num_tokens == 0) return s.scores.logits.sum();
    return ops::logsumexp(s.scores.logits).square().mean();
  }
};

}  // namespace

LossEntry loss_router_z() { return plug_in<RouterZ, LossEntry>("router_z", "arXiv:2202.08906", "mean squared logsumexp of the logits"); }

}  // namespace switchyard
