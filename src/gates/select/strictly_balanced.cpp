// In training each expert takes the m = k T / E tokens of highest probability, exactly; outside training a token takes every
// expert whose probability is above that expert's learned threshold tau, so that the choice no longer depends on the batch.
// The thresholds learn from the term "threshold" (loss gate_term):
//   L = sum_t sum_i (M_thr - M_batch)_ti (p_ti - tau_i),   M_thr = [p > tau], M_batch = what training chose
// Each summand is >= 0, and 0 where both masks agree. Source: Shazeer et al., arXiv:1701.06538 appendix F.
// The choice in training looks along the tokens: a causal model must be told to accept it (allow_lookahead).
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

namespace switchyard::gates {
namespace {

class StrictlyBalanced final : public Selector {
 public:
  struct Options {
    int64_t k = 2;
    template <class V> void fields(V&& v) { v("k", k, "experts per token on average"); }
  };

  StrictlyBalanced(const Options& o, const GateShape& s) : k_(o.k), num_experts_(s.num_experts) {
    if (k_ < 1 || k_ > num_experts_) fail(ErrorKind::config, "select strictly_balanced: k = {} in layers.{}.ffn, expected 1 to num_experts = {}", k_, s.layer, num_experts_);
    threshold_ = register_parameter("threshold", torch::full({num_experts_}, 1.0 / static_cast<double>(num_experts_)));
  }

  Selection select(Scored& s) override { return s.input.training ? by_batch(s) : by_threshold(s.ranked.detach()); }
  double experts_per_token() const override { return static_cast<double>(k_); }
  bool looks_ahead() const override { return true; }

 private:
  Selection by_batch(Scored& s) {
    auto p = s.ranked.detach();
    const int64_t units = s.valid.defined() ? s.valid.sum().item<int64_t>() : p.size(0);
    const int64_t m = std::min(units, std::max<int64_t>(units > 0, k_ * units / num_experts_));
    if (s.valid.defined()) p = p.masked_fill(~s.valid.unsqueeze(1), -std::numeric_limits<float>::infinity());
    Selection chosen{m > 0 ? ops::top_k(p.t().contiguous(), m) : torch::full({num_experts_, 0}, -1, torch::kInt64), true};
    const auto in_batch = torch::zeros({num_experts_, p.size(0)}, torch::kBool).scatter_(1, chosen.ids.clamp_min(0), chosen.ids >= 0).t();
    const auto distance = s.probs - threshold_;  // [U, E]
    const auto above = distance.detach() > 0;
    auto difference = above.to(distance.scalar_type()) - in_batch.to(distance.scalar_type());
    if (s.valid.defined()) difference = difference * s.valid.unsqueeze(1).to(difference.scalar_type());
    s.terms["threshold"] = (difference * distance).sum();
    return chosen;
  }

  Selection by_threshold(const torch::Tensor& p) const {
    const auto open = p.masked_fill(p <= threshold_.detach(), -std::numeric_limits<float>::infinity());
    const auto ids = ops::top_k(open, num_experts_);
    const int64_t most = ids.numel() == 0 ? 1 : std::max<int64_t>(1, (ids >= 0).sum(1).max().item<int64_t>());
    return {ids.slice(1, 0, most).contiguous()};
  }

  torch::Tensor threshold_;  // [E]
  int64_t k_, num_experts_;
};

}  // namespace

SelectEntry select_strictly_balanced() {
  return plug_in<StrictlyBalanced, SelectEntry>("strictly_balanced", "arXiv:1701.06538", "equal loads in training, learned thresholds afterwards");
}

}  // namespace switchyard::gates
