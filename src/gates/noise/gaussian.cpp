// z' = z + N(0, std^2), training only. std = 0 means 1/E, the choice of V-MoE (arXiv:2106.05974 section 2).
#include "switchyard/gate.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class Gaussian final : public Noiser {
 public:
  struct Options {
    double std = 0;
    template <class V> void fields(V&& v) { v("std", std, "standard deviation; 0 = 1 / num_experts"); }
  };

  Gaussian(const Options& o, const GateShape& s) : std_(o.std > 0 ? o.std : 1.0 / static_cast<double>(s.num_experts)) {
    if (o.std < 0) fail(ErrorKind::config, "noise gaussian: std = {}, expected 0 or more", o.std);
  }

  void on_logits(Scored& s) override {
    if (!s.input.training) return;
    auto n = torch::empty(s.logits.sizes(), torch::kFloat32);
    s.input.random.at("gaussian").fill_normal(n.data_ptr<float>(), n.numel(), static_cast<uint64_t>(s.input.first_token * s.logits.size(1)));
    s.noisy = s.logits + n.mul_(std_);
  }

 private:
  double std_;
};

}  // namespace

NoiseEntry noise_gaussian() { return plug_in<Gaussian, NoiseEntry>("gaussian", "arXiv:2106.05974", "logits plus N(0, std^2)"); }

}  // namespace switchyard::gates
