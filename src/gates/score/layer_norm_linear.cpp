// z = LayerNorm(u) W^T (+ b): only the direction of a unit matters, not its size (SMEAR, arXiv:2306.03745 section 3). With
// norm_weights the row of each expert goes through a LayerNorm of its own as well, without gain and offset.
#include "core/ops.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard::gates {
namespace {

class LayerNormLinear final : public Scorer {
 public:
  struct Options {
    bool bias = false, norm_weights = false;
    double init_scale = 0.1;
    template <class V> void fields(V&& v) {
      v("bias", bias, "learned offset per expert");
      v("norm_weights", norm_weights, "the weights of an expert are normalised, too");
      v("init_scale", init_scale, "initial weights are N(0, init_scale / d_model)");
    }
  };

  LayerNormLinear(const Options& o, const GateShape& s) : norm_weights_(o.norm_weights) {
    auto w = torch::empty({s.num_experts, s.d_model});
    RandomStream(s.seed).at("router", static_cast<uint64_t>(s.layer)).fill_normal(w.data_ptr<float>(), w.numel());
    weight_ = register_parameter("weight", w * std::sqrt(o.init_scale / static_cast<double>(s.d_model)));
    gain_ = register_parameter("gain", torch::ones({s.d_model}));
    offset_ = register_parameter("offset", torch::zeros({s.d_model}));
    if (o.bias) bias_ = register_parameter("bias", torch::zeros({s.num_experts}));
  }

  torch::Tensor score(const torch::Tensor& units, const GateInput&) override {
    const auto x = at::layer_norm(units, {units.size(1)}, gain_, offset_);
    const auto w = norm_weights_ ? at::layer_norm(weight_, {weight_.size(1)}) : weight_;
    const auto z = ops::linear(x, w, /*exact=*/true);
    return bias_.defined() ? z + bias_ : z;
  }

 private:
  bool norm_weights_;
  torch::Tensor weight_, gain_, offset_, bias_;  // [E, d], [d], [d], [E]
};

}  // namespace

ScoreEntry score_layer_norm_linear() {
  return plug_in<LayerNormLinear, ScoreEntry>("layer_norm_linear", "arXiv:2306.03745", "z = LayerNorm(x) W^T");
}

}  // namespace switchyard::gates
