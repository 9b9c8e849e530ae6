// Balance without a loss: the selector compares p_i + b_i, weights use p_i. After every optimiser step
//   b_i += gamma * sign(mean load - load_i)
// with the loads of the whole step. b has no gradient, is saved with the model and stands still outside training.
// Source: Wang et al., arXiv:2408.15664; DeepSeek-V3, arXiv:2412.19437 section 2.1.2 (gamma = 0.001, then 0).
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <c10/core/GradMode.h>

namespace switchyard::gates {
namespace {

class Bias final : public Balancer {
 public:
  struct Options {
    double gamma = 1e-3;
    int64_t steps = 0;
    template <class V> void fields(V&& v) {
      v("gamma", gamma, "step of the bias");
      v("steps", steps, "the bias stands still after so many updates; 0 = never");
    }
  };

  Bias(const Options& o, const GateShape& s) : o_(o) {
    if (!(o.gamma >= 0)) fail(ErrorKind::config, "balance bias: gamma = {}, expected 0 or more", o.gamma);
    bias_ = register_buffer("bias", torch::zeros({s.num_experts}));
    updates_ = register_buffer("updates", torch::zeros({1}));
  }

  torch::Tensor rank(const Scored& s) override { return s.probs.detach() + bias_; }

  void update(const RoutingStats& stats) override {
    const c10::NoGradGuard no_grad;
    if (stats.counts.size(0) != bias_.size(0)) fail(ErrorKind::config, "balance bias: does not go with null_experts");
    if (o_.steps > 0 && updates_.item<float>() >= static_cast<float>(o_.steps)) return;
    bias_ += at::sign(stats.counts.mean() - stats.counts).to(bias_.scalar_type()) * o_.gamma;
    updates_ += 1;
  }

 private:
  Options o_;
  torch::Tensor bias_, updates_;
};

}  // namespace

BalanceEntry balance_bias() {
  return plug_in<Bias, BalanceEntry>("bias", "arXiv:2408.15664", "a bias on the ranking that follows the load of the last step");
}

}  // namespace switchyard::gates
