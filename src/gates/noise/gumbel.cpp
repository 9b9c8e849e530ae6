// z~ = z + g,  g = -ln(-ln u),  u ~ U(0, 1): the softmax of z~ / tau is a Gumbel-softmax sample, its largest entry a sample
// of softmax(z). Training only. Source: Jang et al., arXiv:1611.01144; gates that anneal tau: arXiv:2112.14397.
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class Gumbel final : public Noiser {
 public:
  using Options = NoOptions;
  Gumbel(const Options&, const GateShape&) {}

  void on_logits(Scored& s) override {
    if (!s.input.training) return;
    auto u = torch::empty(s.logits.sizes(), torch::kFloat32);
    const auto first = static_cast<uint64_t>(s.input.first_token * s.logits.size(1));
    s.input.random.at("gumbel").fill_uniform(u.data_ptr<float>(), u.numel(), first);
    constexpr double kLeast = 1e-7;  // float32 uniforms reach 0, whose logarithm is infinite
    s.noisy = s.logits - (-u.clamp(kLeast, 1 - kLeast).log()).log();
  }
};

}  // namespace

NoiseEntry noise_gumbel() { return plug_in<Gumbel, NoiseEntry>("gumbel", "arXiv:1611.01144", "logits plus Gumbel noise"); }

}  // namespace switchyard::gates
