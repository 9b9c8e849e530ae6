// Load-balancing loss:  L = E * sum_e f_e P_e
//   f_e = share of the (token, choice) pairs that chose e, before any drop (no gradient),  P_e = mean probability of e.
// Perfectly uniform routing gives 1 for every k; everything on one expert (k = 1) gives E. The value can be below 1.
// Source: arXiv:2101.03961 section 2.2 (k = 1); GShard, arXiv:2006.16668 counts first choices; Hugging Face does not
// divide by k and pools the layers (divide_by_k = false, layer_reduce = "pooled").
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class LoadBalance final : public LossTerm {
 public:
  struct Options {
    std::string count = "all";
    bool divide_by_k = true;
    template <class V> void fields(V&& v) {
      v("count", count, "which choices count: all, or first (GShard)");
      v("divide_by_k", divide_by_k, "balance gives 1 for every k; false: k");
    }
  };

  explicit LoadBalance(const Options& o) : first_(o.count == "first"), divide_by_k_(o.divide_by_k) {
    if (o.count != "all" && o.count != "first") fail(ErrorKind::config, "loss load_balance: count = '{}', expected all or first", o.count);
  }

  torch::Tensor value(const RoutingStats& s) const override {
    if (!s.scores.probs.defined()) fail(ErrorKind::config, "loss load_balance: the gate of layer {} has no probabilities", s.layer);
    if (s.num_tokens == 0) return s.scores.probs.sum();  // 0, with a graph
    const double choices = first_ || !divide_by_k_ ? 1.0 : static_cast<double>(s.top_k);
    const auto f = (first_ ? s.first_counts : s.counts) / (static_cast<double>(s.num_tokens) * choices);  // [E]
    const auto p = s.scores.probs.mean(0);                                                               // [E]
    return static_cast<double>(s.num_experts) * (f * p).sum();
  }

 private:
  bool first_, divide_by_k_;
};

}  // namespace

LossEntry loss_load_balance() {
  return plug_in<LoadBalance, LossEntry>("load_balance", "arXiv:2101.03961", "E * sum of share times mean probability");
}

}  // namespace switchyard
