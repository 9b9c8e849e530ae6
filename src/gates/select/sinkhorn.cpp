// Optimal transport with entropy: in training the k best experts of each token in the plan Pi that maximises
//   sum_ti Pi_ti z_ti + tau H(Pi)    with rows summing to 1 and columns to T / E,
// found by Sinkhorn's alternating scalings of exp(z / tau) (core/sinkhorn.h); outside training the k best logits. Approximately
// balanced: no column is exact after argmax. No gradient passes through Pi.
// Source: S-BASE in Clark et al., arXiv:2202.01169 appendix B. Pi depends on the whole batch: not for causal models.
#include "core/ops.h"
#include "core/sinkhorn.h"
#include "core/solver_scores.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

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
    return {numbers_only(best_of(s.logits.detach(), s), s)};
  }
  double experts_per_token() const override { return static_cast<double>(o_.k); }
  bool looks_ahead() const override { return true; }

 private:
  [[nodiscard]] torch::Tensor best_of(const torch::Tensor& z, const Scored& s) const {
    if (!s.input.training) return ops::top_k(z, o_.k);
    if (!s.valid.defined()) return ops::top_k(plan(finite_scores(z)), o_.k);
    const auto ids = ops::top_k(plan(finite_scores(z.index({s.valid}))), o_.k);
    return torch::full({z.size(0), o_.k}, -1, torch::kInt64).index_put_({s.valid}, ids);
  }

  [[nodiscard]] torch::Tensor plan(const torch::Tensor& z) const {
    return sinkhorn_log_plan(z, {.tau = o_.tau, .iterations = o_.iterations, .tolerance = o_.tolerance}).to(torch::kFloat32);
  }

  Options o_;
};

}  // namespace

SelectEntry select_sinkhorn() {
  return plug_in<Sinkhorn, SelectEntry>("sinkhorn", "arXiv:2202.01169", "the best experts of an entropic transport plan with equal loads");
}

}  // namespace switchyard::gates
