// The auxiliary losses of a layer weigh as much as the layer drops: after every step, with d the dropped share of its tokens,
//   alpha <- beta * alpha + (1 - beta) * min(xi * d, alpha_max)
// and alpha multiplies the losses (give them weight = 1). Source: Skywork-MoE, arXiv:2406.06563 section 4.2 (beta 0.99,
// xi 1/5, alpha_max 0.01). Dropless layers drop nothing: there d is the share of rows above `virtual_capacity` times the
// mean load.
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <c10/core/GradMode.h>

#include <algorithm>

namespace switchyard::gates {
namespace {

class Adaptive final : public Balancer {
 public:
  struct Options {
    double beta = 0.99, xi = 0.2, alpha_max = 0.01, start = 0.01, virtual_capacity = 0;
    template <class V> void fields(V&& v) {
      v("beta", beta, "share of the old coefficient");
      v("xi", xi, "coefficient per dropped share");
      v("alpha_max", alpha_max, "largest coefficient");
      v("start", start, "coefficient before the first step");
      v("virtual_capacity", virtual_capacity, "rows above this multiple of the mean load count as dropped; 0 = real drops");
    }
  };

  Adaptive(const Options& o, const GateShape&) : o_(o) {
    if (!(o.beta >= 0 && o.beta < 1)) fail(ErrorKind::config, "balance adaptive: beta = {}, expected 0 <= beta < 1", o.beta);
    if (!(o.xi > 0 && o.alpha_max > 0)) fail(ErrorKind::config, "balance adaptive: xi = {}, alpha_max = {}, expected more than 0", o.xi, o.alpha_max);
    if (!(o.start >= 0 && o.start <= o.alpha_max))
      fail(ErrorKind::config, "balance adaptive: start = {}, expected 0 to alpha_max = {}", o.start, o.alpha_max);
    alpha_ = register_buffer("alpha", torch::full({1}, o.start));
  }

  void update(const RoutingStats& stats) override {
    const c10::NoGradGuard no_grad;
    const double target = std::min(o_.xi * dropped(stats), o_.alpha_max);
    alpha_.mul_(o_.beta).add_((1 - o_.beta) * target);
  }
  double loss_scale() const override { return alpha_.item<double>(); }

 private:
  [[nodiscard]] double dropped(const RoutingStats& stats) const {
    if (o_.virtual_capacity == 0) return stats.dropped_fraction();
    const double wanted = stats.counts.sum().item<double>();
    const auto over = (stats.counts - stats.counts.mean() * o_.virtual_capacity).clamp_min(0);
    return wanted == 0 ? 0 : over.sum().item<double>() / wanted;
  }

  Options o_;
  torch::Tensor alpha_;
};

}  // namespace

BalanceEntry balance_adaptive() {
  return plug_in<Adaptive, BalanceEntry>("adaptive", "arXiv:2406.06563", "loss coefficients that follow the dropped share");
}

}  // namespace switchyard::gates
