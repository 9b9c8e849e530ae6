// Multiplicative input jitter: x' = x * U(1 - eps, 1 + eps) per element, training only (arXiv:2101.03961 section 2.4).
// The input is multiplied, not the logits.
#include "switchyard/gate.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class Jitter final : public Noiser {
 public:
  struct Options {
    double eps = 1e-2;
    template <class V> void fields(V&& v) { v("eps", eps, "half width of the factor around 1"); }
  };

  Jitter(const Options& o, const GateShape&) : eps_(o.eps) {
    if (!(eps_ >= 0 && eps_ < 1)) fail(ErrorKind::config, "noise jitter: eps = {}, expected 0 <= eps < 1", eps_);
  }

  torch::Tensor on_input(const torch::Tensor& units, const GateInput& in) override {
    if (!in.training || eps_ == 0) return units;
    auto u = torch::empty(units.sizes(), torch::kFloat32);
    in.random.at("jitter").fill_uniform(u.data_ptr<float>(), u.numel(), static_cast<uint64_t>(in.first_token * units.size(1)));
    return units * u.mul_(2 * eps_).add_(1 - eps_);
  }

 private:
  double eps_;
};

}  // namespace

NoiseEntry noise_jitter() { return plug_in<Jitter, NoiseEntry>("jitter", "arXiv:2101.03961", "input times U(1-eps, 1+eps)"); }

}  // namespace switchyard::gates
