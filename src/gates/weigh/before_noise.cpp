// w = softmax(z)[chosen] / sum softmax(z)[chosen] with the logits z before noise: the noise moves the choice and leaves the
// weights alone. With renormalise = false the probabilities stand as they are. The neighbours `raw` and `renormalise` weigh
// with the probabilities that the selector saw, noise included. Source: the choice that arXiv:2206.04674 leaves open.
#include "core/ops.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class BeforeNoise final : public Weigher {
 public:
  struct Options {
    bool renormalise = true;
    template <class V> void fields(V&& v) { v("renormalise", renormalise, "weights of the chosen sum to 1"); }
  };

  BeforeNoise(const Options& o, const GateShape&) : renormalise_(o.renormalise) {}

  torch::Tensor weigh(const Scored& s, const Selection& chosen) override {
    const auto p = ops::softmax(s.logits);
    return renormalise_ ? chosen.shares(p) : chosen.gather(p);
  }
  bool constant_for_one() const override { return renormalise_; }

 private:
  bool renormalise_;
};

}  // namespace

WeighEntry weigh_before_noise() {
  return plug_in<BeforeNoise, WeighEntry>("before_noise", "arXiv:2206.04674", "softmax of the logits before noise, of the chosen");
}

}  // namespace switchyard::gates
