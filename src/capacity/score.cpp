// Batch Prioritized Routing: tokens are served by their highest probability (arXiv:2106.05974 section 3). Which tokens are
// dropped depends on all tokens of the group, so a causal model must not use it.
#include "core/registries.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class Score final : public Priority {
 public:
  struct Options {
    std::string by = "max";
    template <class V> void fields(V&& v) { v("by", by, "max: highest probability; sum: sum over the chosen"); }
  };
  explicit Score(const Options& o) : by_sum_(o.by == "sum") {
    if (o.by != "max" && o.by != "sum") fail(ErrorKind::config, "capacity priority score: by = '{}', expected max or sum", o.by);
  }
  torch::Tensor order(const TokenChoice& choice, const Scores& scores, const GateInput&) const override {
    const auto p = scores.probs.detach();
    const auto key = by_sum_ ? (p.gather(1, choice.expert_ids.clamp_min(0)) * (choice.expert_ids >= 0)).sum(1) : p.amax(1);
    return std::get<1>(at::sort(key, /*stable=*/true, /*dim=*/0, /*descending=*/true));
  }
  bool looks_ahead() const override { return true; }

 private:
  bool by_sum_;
};

}  // namespace

PriorityEntry priority_score() { return plug_in<Score, PriorityEntry>("score", "arXiv:2106.05974", "highest probability first"); }

}  // namespace switchyard
