// p = softmax(lambda * (z - mean z) / std z), mean and population deviation over the experts of a unit: the sharpness is
// lambda, whatever the scale of the logits. Invariant to z -> a z + b, a > 0.
// Source: Skywork-MoE, arXiv:2406.06563 section 4.1 (lambda = 1).
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class Standardise final : public Normaliser {
 public:
  struct Options {
    double lambda = 1, eps = 1e-6;
    template <class V> void fields(V&& v) {
      v("lambda", lambda, "deviation of the logits that the softmax sees");
      v("eps", eps, "added to the deviation of equal logits");
    }
  };

  Standardise(const Options& o, const GateShape&) : lambda_(o.lambda), eps_(o.eps) {
    if (!(lambda_ > 0)) fail(ErrorKind::config, "normalise standardise: lambda = {}, expected more than 0", lambda_);
    if (!(eps_ > 0)) fail(ErrorKind::config, "normalise standardise: eps = {}, expected more than 0", eps_);
  }

  torch::Tensor normalise(const Scored& s) override {
    const auto centred = s.noisy - s.noisy.mean(-1, /*keepdim=*/true);
    // The root of a sum of squares has no gradient at 0: eps^2 stands under it.
    const auto deviation = (centred.square().mean(-1, /*keepdim=*/true) + eps_ * eps_).sqrt();
    return at::softmax(centred / deviation * lambda_, -1);
  }

 private:
  double lambda_, eps_;
};

}  // namespace

NormaliseEntry normalise_standardise() {
  return plug_in<Standardise, NormaliseEntry>("standardise", "arXiv:2406.06563", "softmax of logits with mean 0 and deviation lambda");
}

}  // namespace switchyard::gates
