// Conditional MoE routing: each token decides how much of its output comes from the experts that it chose,
//
//   g_t = sigmoid(w . x_t + b)        y_t = (1 - g_t) shared(x_t) + g_t routed(x_t)
//
// In training g_t is 0 with probability `dropout`; padding has g_t = 0. The sum of g_t is left in the terms of the layer for
// the loss `routed_budget`, which keeps its mean over all layers near a budget. The mixture is formed in float32.
// Source: NLLB, arXiv:2207.04672 section 6.2; arXiv:2212.07571.
//
// Departs from the public code: its dropout scales the g that stay by 1 / (1 - p), so that g can exceed 1 and 1 - g become
// negative. Here they stay as they are.
#include "core/ops.h"
#include "core/routed_share.h"
#include "switchyard/error.h"
#include "switchyard/join.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {
namespace {

class ConditionalRouting final : public Join {
 public:
  struct Options {
    double dropout = 0.2, init_scale = 0.1;
    template <class V> void fields(V&& v) {
      v("dropout", dropout, "chance of a token to use the shared experts alone, training only");
      v("init_scale", init_scale, "initial weights are N(0, init_scale / d_model), truncated at two deviations");
    }
  };

  ConditionalRouting(const Options& o, const GateShape& s) : dropout_(o.dropout) {
    if (!(o.dropout >= 0 && o.dropout < 1)) fail(ErrorKind::config, "join cmr: dropout = {}, expected 0 <= dropout < 1", o.dropout);
    if (!(o.init_scale >= 0)) fail(ErrorKind::config, "join cmr: init_scale = {}, expected 0 or more", o.init_scale);
    auto w = torch::empty({1, s.d_model});
    RandomStream(s.seed).at("join", static_cast<uint64_t>(s.layer)).fill_normal(w.data_ptr<float>(), w.numel());
    weight_ = register_parameter("weight", w.clamp_(-2, 2).mul_(std::sqrt(o.init_scale / static_cast<double>(s.d_model))));
    bias_ = register_parameter("bias", torch::zeros({1}));
  }

  torch::Tensor join(const torch::Tensor& routed, const torch::Tensor& shared, const GateInput& input,
                     std::map<std::string, torch::Tensor>& terms) override {
    const auto g = share_of_routed(input);
    terms[kRoutedShare] = g.sum();
    return (1 - g) * shared + g * routed;
  }

 private:
  // [T, 1]
  [[nodiscard]] torch::Tensor share_of_routed(const GateInput& in) const {
    auto g = at::sigmoid(ops::linear(in.hidden, weight_, /*exact=*/true) + bias_);
    if (in.training && dropout_ > 0) {
      auto u = torch::empty(g.sizes(), torch::kFloat32);
      in.random.at("cmr_dropout").fill_uniform(u.data_ptr<float>(), u.numel(), static_cast<uint64_t>(in.first_token));
      g = g * (u >= dropout_).to(g.device(), g.scalar_type());
    }
    return in.valid.defined() ? g * in.valid.unsqueeze(1).to(g.scalar_type()) : g;
  }

  double dropout_;
  torch::Tensor weight_, bias_;  // [1, d], [1]
};

}  // namespace

JoinEntry join_cmr() { return plug_in<ConditionalRouting, JoinEntry>("cmr", "arXiv:2207.04672", "a sigmoid per token mixes shared and routed experts"); }

}  // namespace switchyard
