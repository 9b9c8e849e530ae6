// p = softmax(z / tau), tau falls from `from` to `to` over `steps` training steps and stays there:
//   exponential  tau = max(to, from * (to / from)^(step / steps))      linear  tau = max(to, from + (to - from) step / steps)
// Outside training tau = to: evaluation asks for the gate that training leads to.
// Source: EvoMoE, arXiv:2112.14397 section 3.3 (dense-to-sparse gate).
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace switchyard::gates {
namespace {

class AnnealedSoftmax final : public Normaliser {
 public:
  struct Options {
    double from = 2.0, to = 0.3;
    int64_t steps = 1000;
    std::string kind = "exponential";
    template <class V> void fields(V&& v) {
      v("from", from, "temperature at step 0");
      v("to", to, "temperature at the end");
      v("steps", steps, "training steps from the one to the other");
      v("shape", kind, "exponential or linear");
    }
  };

  AnnealedSoftmax(const Options& o, const GateShape&) : o_(o) {
    if (!(o.to > 0 && o.from >= o.to)) fail(ErrorKind::config, "normalise annealed_softmax: from = {}, to = {}, expected from >= to > 0", o.from, o.to);
    if (o.steps < 1) fail(ErrorKind::config, "normalise annealed_softmax: steps = {}, expected at least 1", o.steps);
    if (o.kind != "exponential" && o.kind != "linear")
      fail(ErrorKind::config, "normalise annealed_softmax: shape = '{}', expected exponential or linear", o.kind);
  }

  torch::Tensor normalise(const Scored& s) override { return ops::softmax(s.noisy / (s.input.training ? temperature(s.input.step) : o_.to)); }

 private:
  [[nodiscard]] double temperature(int64_t step) const {
    const double done = static_cast<double>(step) / static_cast<double>(o_.steps);
    return std::max(o_.to, o_.kind == "linear" ? o_.from + (o_.to - o_.from) * done : o_.from * std::pow(o_.to / o_.from, done));
  }

  Options o_;
};

}  // namespace

NormaliseEntry normalise_annealed_softmax() {
  return plug_in<AnnealedSoftmax, NormaliseEntry>("annealed_softmax", "arXiv:2112.14397", "softmax at a temperature that falls with training");
}

}  // namespace switchyard::gates
