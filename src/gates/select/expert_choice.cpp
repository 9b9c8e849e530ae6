// Each expert takes the k = capacity_factor * T / E tokens that score highest for it; a token may get any number of
// experts, none included, and the load is equal by construction. Source: Zhou et al., arXiv:2202.09368 section 3.2.
//
// max_experts = b > 0 bounds the experts of a token: the experts choose from the plan A that maximises <S, A> + lambda H(A)
// under row sums <= b, column sums = k and 0 <= A <= 1 (section 3.3), found by Dykstra's alternating projections in the
// geometry of the entropy. A larger lambda spreads the plan, and the k best of its columns may then exceed b.
//
// Which tokens an expert takes depends on all tokens: not for causal models.
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace switchyard::gates {
namespace {

struct ExpertChoiceOptions {
  double capacity_factor = 2, lambda = 0.001;
  int64_t max_experts = 0, iterations = 100;
  template <class V> void fields(V&& v) {
    v("capacity_factor", capacity_factor, "experts per token on average");
    v("max_experts", max_experts, "most experts of one token; 0 = any number");
    v("lambda", lambda, "weight of the entropy in the bounded plan");
    v("iterations", iterations, "rounds of projections for the bounded plan");
  }
};

// The plan A [U, E]. Each constraint set has a closed Bregman projection: scaling for sums, clipping for A <= 1; the two
// inequalities need Dykstra's corrections, the equality none. In logarithms: exp(S / lambda) overflows.
torch::Tensor bounded_plan(const torch::Tensor& scores, double k, const ExpertChoiceOptions& o) {
  const auto s = scores.to(torch::kFloat64);
  auto a = (s / o.lambda).clamp_min(-1e30);  // padding is -inf, and -inf - -inf is no number
  auto row = torch::zeros({s.size(0), 1}, a.options()), clip = torch::zeros_like(a);
  for (int64_t i = 0; i < o.iterations; ++i) {
    const auto before_rows = a + row;
    a = before_rows - (at::logsumexp(before_rows, 1, true) - std::log(static_cast<double>(o.max_experts))).clamp_min(0);
    row = (before_rows - a).slice(1, 0, 1);
    const auto before_clip = a + clip;
    a = before_clip.clamp_max(0);
    clip = before_clip - a;
    a = a - (at::logsumexp(a, 0, true) - std::log(k));
  }
  return a;
}

class ExpertsChoose final : public Selector {
 public:
  using Options = ExpertChoiceOptions;
  ExpertsChoose(const Options& o, const GateShape& s) : o_(o), num_experts_(s.num_experts) {
    if (!(o.capacity_factor > 0) || o.capacity_factor > static_cast<double>(num_experts_))
      fail(ErrorKind::config, "select expert_choice: capacity_factor = {} in layers.{}.ffn, expected more than 0 and at most num_experts = {}", o.capacity_factor,
           s.layer, num_experts_);
    if (o.max_experts < 0 || (o.max_experts > 0 && static_cast<double>(o.max_experts) < o.capacity_factor))
      fail(ErrorKind::config, "select expert_choice: max_experts = {} in layers.{}.ffn, expected 0 or at least capacity_factor = {}", o.max_experts, s.layer,
           o.capacity_factor);
    if (!(o.lambda > 0) || o.iterations < 1)
      fail(ErrorKind::config, "select expert_choice: lambda = {}, iterations = {}, expected more than 0", o.lambda, o.iterations);
  }

  Selection select(Scored& s) override {
    auto ranked = s.ranked.detach();
    const int64_t units = s.valid.defined() ? s.valid.sum().item<int64_t>() : ranked.size(0);
    const double share = o_.capacity_factor * static_cast<double>(units) / static_cast<double>(num_experts_);
    const int64_t k = std::clamp<int64_t>(static_cast<int64_t>(std::ceil(share - 1e-9)), units > 0 ? 1 : 0, std::max<int64_t>(units, 0));
    if (k == 0) return {torch::full({num_experts_, 0}, -1, torch::kInt64), true};
    if (s.valid.defined()) ranked = ranked.masked_fill(~s.valid.unsqueeze(1), -std::numeric_limits<float>::infinity());
    if (o_.max_experts > 0) ranked = bounded_plan(ranked, static_cast<double>(k), o_).to(torch::kFloat32);
    return {ops::top_k(ranked.t().contiguous(), k), true};
  }
  double experts_per_token() const override { return o_.capacity_factor; }
  bool looks_ahead() const override { return true; }

 private:
  Options o_;
  int64_t num_experts_;
};

}  // namespace

SelectEntry select_expert_choice() {
  return plug_in<ExpertsChoose, SelectEntry>("expert_choice", "arXiv:2202.09368", "each expert takes its best tokens");
}

}  // namespace switchyard::gates
