// z = x W^T + b, in float32 (arXiv:1701.06538, arXiv:2101.03961 section 2.4).
//
// The weight is drawn from a truncated normal of std sqrt(scale / d_model), scale 0.1 as in arXiv:2101.03961 section 2.4, or from
// a normal whose deviation is given (0.02 in arXiv:2309.05444).
#include "core/ops.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard::gates {
namespace {

class LinearScore final : public Scorer {
 public:
  struct Options {
    bool bias = false;
    double init_scale = 0.1, init_std = 0;
    template <class V> void fields(V&& v) {
      v("bias", bias, "learned offset per expert");
      v("init_scale", init_scale, "initial weights are N(0, init_scale / d_model), truncated at two deviations");
      v("init_std", init_std, "above 0: N(0, init_std^2) instead, whatever d_model is");
    }
  };

  LinearScore(const Options& o, const GateShape& s) {
    auto w = torch::empty({s.num_experts, s.d_model});
    RandomStream(s.seed).at("router", static_cast<uint64_t>(s.layer)).fill_normal(w.data_ptr<float>(), w.numel());
    if (o.init_std > 0) w.mul_(o.init_std);
    else w.clamp_(-2, 2).mul_(std::sqrt(o.init_scale / static_cast<double>(s.d_model)));
    weight_ = register_parameter("weight", w);
    if (o.bias) bias_ = register_parameter("bias", torch::zeros({s.num_experts}));
  }

  torch::Tensor score(const torch::Tensor& units, const GateInput&) override {
    const auto z = ops::linear(units, weight_, /*exact=*/true);
    return bias_.defined() ? z + bias_ : z;
  }

 private:
  torch::Tensor weight_, bias_;
};

}  // namespace

ScoreEntry score_linear() { return plug_in<LinearScore, ScoreEntry>("linear", "arXiv:1701.06538", "z = x W^T, float32"); }

}  // namespace switchyard::gates
