// z~ = z + g,  g = -ln(-ln u),  u ~ U(0, 1): the softmax of z~ / tau is a Gumbel-softmax sample, its largest entry a sample
// of softmax(z). Training only. Source: Jang et al., arXiv:1611.01144; gates that anneal tau: arXiv:2112.14397.
// unit = "sequence": all tokens of a sequence share their g, so that what a choice does shows in the loss of whole sequences
// (router tuning, arXiv:2406.10260).
#include "core/call_tokens.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class Gumbel final : public Noiser {
 public:
  struct Options {
    std::string unit = "token";
    template <class V> void fields(V&& v) { v("unit", unit, "token: a draw for each unit; sequence: one for all tokens of a sequence"); }
  };

  Gumbel(const Options& o, const GateShape&) : per_sequence_(o.unit == "sequence") {
    if (o.unit != "token" && o.unit != "sequence") fail(ErrorKind::config, "noise gumbel: unit = '{}', expected token or sequence", o.unit);
  }

  void on_logits(Scored& s) override {
    if (!s.input.training) return;
    const int64_t experts = s.logits.size(1);
    auto u = torch::empty(s.logits.sizes(), torch::kFloat32);
    const auto stream = s.input.random.at("gumbel");
    if (per_sequence_) {
      if (s.unit_of.defined()) fail(ErrorKind::config, "noise gumbel: unit = 'sequence' needs pool = 'token'");
      const auto place = sequence_places(s.input);
      for (int64_t t = 0; t < place.size(0); ++t)
        stream.fill_uniform(u.data_ptr<float>() + t * experts, experts, static_cast<uint64_t>(place.data_ptr<int64_t>()[t] * experts));
    } else {
      stream.fill_uniform(u.data_ptr<float>(), u.numel(), static_cast<uint64_t>(s.input.first_token * experts));
    }
    constexpr double kLeast = 1e-7;  // float32 uniforms reach 0, whose logarithm is infinite
    s.noisy = s.logits - (-u.clamp(kLeast, 1 - kLeast).log()).log();
  }

 private:
  bool per_sequence_;
};

}  // namespace

NoiseEntry noise_gumbel() { return plug_in<Gumbel, NoiseEntry>("gumbel", "arXiv:1611.01144", "logits plus Gumbel noise"); }

}  // namespace switchyard::gates
