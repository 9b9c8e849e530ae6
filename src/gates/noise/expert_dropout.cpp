// In training each expert is out of reach of a unit with probability p: its logit becomes -inf, so that the softmax over the
// rest is the renormalised probability. A unit that would lose every expert loses none.
// Source: SMEAR, arXiv:2306.03745 section 3 (p = 0.1). It drops choices; dropout inside experts is an option of the bank.
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <limits>

namespace switchyard::gates {
namespace {

class ExpertDropout final : public Noiser {
 public:
  struct Options {
    double p = 0.1;
    template <class V> void fields(V&& v) { v("p", p, "chance of an expert to be out of reach, training only"); }
  };

  ExpertDropout(const Options& o, const GateShape&) : p_(o.p) {
    if (!(p_ >= 0 && p_ < 1)) fail(ErrorKind::config, "noise expert_dropout: p = {}, expected 0 <= p < 1", p_);
  }

  void on_logits(Scored& s) override {
    if (!s.input.training || p_ == 0) return;
    auto u = torch::empty(s.logits.sizes(), torch::kFloat32);
    s.input.random.at("expert_dropout").fill_uniform(u.data_ptr<float>(), u.numel(), static_cast<uint64_t>(s.input.first_token * s.logits.size(1)));
    const auto out = u < p_;
    s.noisy = s.logits.masked_fill(out & ~out.all(1, /*keepdim=*/true), -std::numeric_limits<float>::infinity());
  }

 private:
  double p_;
};

}  // namespace

NoiseEntry noise_expert_dropout() { return plug_in<ExpertDropout, NoiseEntry>("expert_dropout", "arXiv:2306.03745", "experts out of reach at random"); }

}  // namespace switchyard::gates
