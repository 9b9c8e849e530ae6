// In training one expert drawn from the probabilities, outside training the most probable one. The router learns by the
// score function (loss `policy_gradient`), for no gradient passes through a draw. With `baseline` a linear head on the
// detached token estimates its reward: term "baseline" [valid tokens], trained by the loss `reward_baseline`.
// Source: RL-R in Clark et al., arXiv:2202.01169 section 3.3.
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class Sample final : public Selector {
 public:
  struct Options {
    bool baseline = false;
    template <class V> void fields(V&& v) { v("baseline", baseline, "estimate the reward of each token by a linear head"); }
  };

  Sample(const Options& o, const GateShape& s) {
    if (o.baseline) baseline_ = register_parameter("baseline", torch::zeros({1, s.d_model}));
  }

  Selection select(Scored& s) override {
    const auto p = s.probs.detach();
    if (!s.input.training) return {ops::top_k(p, 1)};
    if (baseline_.defined()) s.terms["baseline"] = estimate(s);
    // The largest of ln p_i - ln(-ln u_i) is a draw from p (Gumbel).
    auto u = torch::empty(p.sizes(), torch::kFloat32);
    s.input.random.at("sample").fill_uniform(u.data_ptr<float>(), u.numel(), static_cast<uint64_t>(s.input.first_token * p.size(1)));
    constexpr double kLeast = 1e-7;
    return {ops::top_k(p.log() - (-u.clamp(kLeast, 1 - kLeast).log()).log(), 1)};
  }
  double experts_per_token() const override { return 1; }

 private:
  [[nodiscard]] torch::Tensor estimate(const Scored& s) const {
    if (s.unit_of.defined()) fail(ErrorKind::config, "select sample: a baseline per token needs pool = 'token'");
    const auto units = s.units.detach();
    return ops::linear(s.valid.defined() ? units.index({s.valid}) : units, baseline_, /*exact=*/true).select(1, 0);
  }

  torch::Tensor baseline_;  // [1, d]
};

}  // namespace

SelectEntry select_sample() { return plug_in<Sample, SelectEntry>("sample", "arXiv:2202.01169", "one expert drawn from the probabilities"); }

}  // namespace switchyard::gates
