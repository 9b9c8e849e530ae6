// Optimal transport with entropy: in training the k best experts of each token in the plan Pi that maximises
//   sum_ti Pi_ti z_ti + tau H(Pi)    with rows summing to 1 and columns to T / E,
// found by Sinkhorn's alternating scalings of exp(z / tau); outside training the k best logits. Approximately
// balanced: no column is exact after argmax. No gradient passes through Pi.
// Source: S-BASE in Clark et al., arXiv:2202.01169 appendix B. Pi depends on the whole batch: not for causal models.
#include "core/ops.h"
#include "kernels/sinkhorn.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace switchyard::gates {
namespace {

class Sinkhorn final : public Selector {
 public:
  struct Options {
    int64_t k = 1, iterations = 100;
    double tau = 1, tolerance = 1e-4;
    template <class V> void fields(V&& v) {
      v("k", k, "experts per token");
      v("iterations", iterations, "most rounds of scalings");
      v("tau", tau, "weight of the entropy; towards 0 the plan becomes the balanced assignment");
      v("tolerance", tolerance, "ends when no row sum is further from 1");
    }
  };

  Sinkhorn(const Options& o, const GateShape& s) : o_(o) {
    if (o.k < 1 || o.k > s.num_experts) fail(ErrorKind::config, "select sinkhorn: k = {} in layers.{}.ffn, expected 1 to num_experts = {}", o.k, s.layer, s.num_experts);
    if (!(o.tau > 0) || o.iterations < 1) fail(ErrorKind::config, "select sinkhorn: tau = {}, iterations = {}, expected more than 0", o.tau, o.iterations);
  }

  Selection select(Scored& s) override {
    const auto z = s.logits.detach();
    if (!s.input.training) return {ops::top_k(z, o_.k)};
    if (!s.valid.defined()) return {ops::top_k(plan(z), o_.k)};
    const auto ids = ops::top_k(plan(z.index({s.valid})), o_.k);
    return {torch::full({z.size(0), o_.k}, -1, torch::kInt64).index_put_({s.valid}, ids)};
  }
  double experts_per_token() const override { return static_cast<double>(o_.k); }
  bool looks_ahead() const override { return true; }

 private:
  // log Pi [T, E]. Scales of rows and columns are as good as logarithms while no exponential comes near the ends of float64.
  [[nodiscard]] torch::Tensor plan(const torch::Tensor& logits) const {
    const auto z = logits.to(torch::kFloat64) / o_.tau;
    if (z.size(0) == 0) return z.to(torch::kFloat32);
    const double column = static_cast<double>(z.size(0)) / static_cast<double>(z.size(1));
    const auto relative = (z - z.amax(1, /*keepdim=*/true)).contiguous();
    constexpr double kWidest = 100;  // scales may reach e^100 and its inverse
    if (!(relative.min().item<double>() > -kWidest)) return plan_in_logarithms(z, std::log(column)).to(torch::kFloat32);
    const auto m = relative.exp();
    auto row = torch::empty({z.size(0), 1}, torch::kFloat64), scale = torch::empty({z.size(1)}, torch::kFloat64);
    kernels::sinkhorn_scales(z.size(0), z.size(1), m.data_ptr<double>(), column, o_.iterations, o_.tolerance, row.data_ptr<double>(), scale.data_ptr<double>());
    return (relative + row.log() + scale.log()).to(torch::kFloat32);
  }

  [[nodiscard]] torch::Tensor plan_in_logarithms(torch::Tensor log_plan, double log_column) const {
    for (int64_t i = 0; i < o_.iterations; ++i) {
      log_plan = log_plan - at::logsumexp(log_plan, 1, true);
      log_plan = log_plan - at::logsumexp(log_plan, 0, true) + log_column;
      if ((at::logsumexp(log_plan, 1).exp() - 1).abs().max().item<double>() < o_.tolerance) break;
    }
    return log_plan;
  }

  Options o_;
};

}  // namespace

SelectEntry select_sinkhorn() {
  return plug_in<Sinkhorn, SelectEntry>("sinkhorn", "arXiv:2202.01169", "the best experts of an entropic transport plan with equal loads");
}

}  // namespace switchyard::gates
