// Load-balancing loss:  L = E * sum_e f_e P_e
//   f_e = share of the (token, choice) pairs that chose e, before any drop (no gradient),  P_e = mean probability of e.
// Perfectly uniform routing gives 1 for every k; everything on one expert (k = 1) gives E. The value can be below 1.
// Source: arXiv:2101.03961 section 2.2 (k = 1); GShard, arXiv:2006.16668 counts first choices; Hugging Face does not
// divide by k and pools the layers (divide_by_k = false, layer_reduce = "pooled"). With unit = "sequence" shares and means are
// over sequences, each counted once: for gates that decide per sequence (arXiv:2110.03742).
#include "core/expert_probs.h"
#include "core/one_per_sequence.h"
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class LoadBalance final : public LossTerm {
 public:
  struct Options {
    std::string count = "all", unit = "token";
    bool divide_by_k = true;
    template <class V> void fields(V&& v) {
      v("count", count, "which choices count: all, or first (GShard)");
      v("divide_by_k", divide_by_k, "balance gives 1 for every k; false: k");
      v("unit", unit, "token; sequence: every sequence counts once, for gates that decide per sequence");
    }
  };

  explicit LoadBalance(const Options& o) : first_(o.count == "first"), divide_by_k_(o.divide_by_k), per_sequence_(o.unit == "sequence") {
    if (o.count != "all" && o.count != "first") fail(ErrorKind::config, "loss load_balance: count = '{}', expected all or first", o.count);
    if (o.unit != "token" && o.unit != "sequence") fail(ErrorKind::config, "loss load_balance: unit = '{}', expected token or sequence", o.unit);
  }

  torch::Tensor value(const RoutingStats& stats) const override {
    (void)probs_of_experts(stats, "load_balance");
    const auto s = per_sequence_ ? one_per_sequence(stats, "load_balance") : stats;
    if (s.num_tokens == 0) return s.scores.probs.sum();  // 0, with a graph
    const double choices = first_ || !divide_by_k_ ? 1.0 : static_cast<double>(s.top_k);
    const auto f = (first_ ? s.first_counts : s.counts) / (static_cast<double>(s.num_tokens) * choices);  // [E]
    const auto p = s.scores.probs.mean(0);                                                               // [E]
    return static_cast<double>(s.num_experts) * (f * p).sum();
  }

 private:
  bool first_, divide_by_k_, per_sequence_;
};

}  // namespace

LossEntry loss_load_balance() {
  return plug_in<LoadBalance, LossEntry>("load_balance", "arXiv:2101.03961", "E * sum of share times mean probability");
}

}  // namespace switchyard
