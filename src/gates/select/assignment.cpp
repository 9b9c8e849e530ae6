// Balanced assignment (BASE layers): in training every expert gets the same number of tokens, and the sum of affinities is
// the largest possible; outside training each token takes its best expert, because evaluation must not depend on the
// batch. No gradient passes through the assignment. Source: Lewis et al., arXiv:2103.16716 section 3.
//   solver = "exact"    shortest augmenting paths         solver = "auction"  within T * epsilon of the optimum
// Ranks logits or probabilities alike; the paper's affinities are the logits (`of = "logits"`).
// Which expert a token gets depends on the whole batch: not for causal models.
#include "core/ops.h"
#include "core/solver_scores.h"
#include "kernels/balanced_assignment.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class Assignment final : public Selector {
 public:
  struct Options {
    std::string solver = "exact";
    double epsilon = 1e-4;
    template <class V> void fields(V&& v) {
      v("solver", solver, "exact or auction");
      v("epsilon", epsilon, "smallest bid of the auction, over the largest affinity");
    }
  };

  Assignment(const Options& o, const GateShape& s) : o_(o), num_experts_(s.num_experts) {
    if (o.solver != "exact" && o.solver != "auction") fail(ErrorKind::config, "select assignment: solver = '{}', expected exact or auction", o.solver);
    if (!(o.epsilon > 0)) fail(ErrorKind::config, "select assignment: epsilon = {}, expected more than 0", o.epsilon);
  }

  Selection select(Scored& s) override {
    return {numbers_only(expert_of(s), s)};
  }
  double experts_per_token() const override { return 1; }
  bool looks_ahead() const override { return true; }

 private:
  [[nodiscard]] torch::Tensor expert_of(const Scored& s) const {
    if (!s.input.training) return ops::top_k(s.logits.detach(), 1);
    auto affinity = s.logits.detach().to(torch::kFloat32);
    if (s.valid.defined()) affinity = affinity.index({s.valid});
    const auto ids = solve(affinity);
    if (!s.valid.defined()) return ids.unsqueeze(1);
    return torch::full({s.logits.size(0)}, -1, torch::kInt64).index_put_({s.valid}, ids).unsqueeze(1);
  }

  [[nodiscard]] torch::Tensor solve(torch::Tensor affinity) const {
    const int64_t tokens = affinity.size(0);
    if (tokens == 0) return torch::empty({0}, torch::kInt64);
    affinity = finite_scores(affinity).contiguous();
    const kernels::AssignmentProblem problem{.affinity = {affinity.data_ptr<float>(), static_cast<size_t>(affinity.numel())},
                                             .tokens = tokens,
                                             .experts = num_experts_,
                                             .capacity = (tokens + num_experts_ - 1) / num_experts_};
    const double scale = std::max(1e-30, affinity.abs().max().item<double>());
    const auto expert_of = o_.solver == "exact" ? kernels::assign_exactly(problem) : kernels::assign_by_auction(problem, o_.epsilon * scale);
    return torch::tensor(expert_of, torch::kInt64);
  }

  Options o_;
  int64_t num_experts_;
};

}  // namespace

SelectEntry select_assignment() {
  return plug_in<Assignment, SelectEntry>("assignment", "arXiv:2103.16716", "the best assignment with equal loads");
}

}  // namespace switchyard::gates
