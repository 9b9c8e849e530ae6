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
  torch::Tensor weigh(const torch::Tensor&, const torch::Tensor& probs, const torch::Tensor& ids) override {
    const auto p = probs.gather(1, ids.clamp_min(0)) * (ids >= 0).to(probs.scalar_type());
    return p / p.sum(-1, /*keepdim=*/true).clamp_min(1e-20);
  }
  bool constant_for_one() const override { return true; }
};

}  // namespace

WeighEntry weigh_renormalise() {
  return plug_in<Renormalise, WeighEntry>("renormalise", "arXiv:2401.04088", "probabilities of the chosen over their sum");
}

}  // namespace switchyard::gates
