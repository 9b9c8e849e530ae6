// z~_i = z_i + eps * s_i,  s = softplus(x W_noise) + floor,  eps ~ N(0, 1) per (unit, expert); training only.
// W_noise starts at zero, so that every s starts at ln 2 + floor. The losses `load` need s.
// Source: Shazeer et al., arXiv:1701.06538 section 2.1 and appendix A; a W_noise per tag: Mod-Squad, arXiv:2212.08066.
#include "core/ops.h"
#include "core/tag_linear.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class LearnedGaussian final : public Noiser {
 public:
  struct Options {
    double floor = 1e-2;
    int64_t tags = 0;
    template <class V> void fields(V&& v) {
      v("floor", floor, "smallest deviation: losses divide by it");
      v("tags", tags, "a deviation of its own for each of so many tags; 0 = one for all");
    }
  };

  LearnedGaussian(const Options& o, const GateShape& s) : floor_(o.floor) {
    if (!(floor_ > 0)) fail(ErrorKind::config, "noise learned_gaussian: floor = {}, expected more than 0", floor_);
    if (o.tags < 0) fail(ErrorKind::config, "noise learned_gaussian: tags = {}, expected 0 or more", o.tags);
    weight_ = register_parameter("weight", o.tags > 0 ? torch::zeros({o.tags, s.num_experts, s.d_model}) : torch::zeros({s.num_experts, s.d_model}));
  }

  void on_logits(Scored& s) override {
    if (!s.input.training) return;
    auto noise = torch::empty(s.logits.sizes(), torch::kFloat32);
    const auto first = static_cast<uint64_t>(s.input.first_token * s.logits.size(1));
    s.input.random.at("learned_gaussian").fill_normal(noise.data_ptr<float>(), noise.numel(), first);
    const bool per_tag = weight_.dim() == 3;
    const auto width = per_tag ? linear_of_tag(s.units, weight_, s.input, "noise learned_gaussian") : ops::linear(s.units, weight_, /*exact=*/true);
    s.noise_std = at::softplus(width) + floor_;
    s.noisy = s.logits + noise * s.noise_std;
  }

 private:
  torch::Tensor weight_;  // [E, d] or [tags, E, d]
  double floor_;
};

}  // namespace

NoiseEntry noise_learned_gaussian() {
  return plug_in<LearnedGaussian, NoiseEntry>("learned_gaussian", "arXiv:1701.06538", "logits plus noise of a learned deviation");
}

}  // namespace switchyard::gates
