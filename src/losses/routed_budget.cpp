// Budget on how much of the outputs comes from routed experts:  L = | sum g / sum tokens - budget |
//   g_t = routed share of token t, of a join that mixes (join = "cmr").
// Published with layer_reduce = "pooled": both sums go over all layers that mix, and one absolute value is taken; "sum" is a
// budget per layer. 0 when the mean share is the budget; the gradient of a share is +1 or -1 over the number of tokens.
// Source: NLLB, arXiv:2207.04672 section 6.2 (budget 0.8 and weight 0.1 in the released recipe).
#include "core/routed_share.h"
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class RoutedBudget final : public LossTerm {
 public:
  struct Options {
    double budget = 0.8;
    template <class V> void fields(V&& v) { v("budget", budget, "wanted mean of the routed share"); }
  };

  explicit RoutedBudget(const Options& o) : budget_(o.budget) {
    if (!(o.budget >= 0 && o.budget <= 1)) fail(ErrorKind::config, "loss routed_budget: budget = {}, expected 0 to 1", o.budget);
  }

  torch::Tensor value(const RoutingStats& s) const override { return pooled_value({&s, 1}); }

  torch::Tensor pooled_value(std::span<const RoutingStats> layers) const override {
    torch::Tensor sum;
    int64_t tokens = 0;
    for (const auto& s : layers) {
      const auto share = s.terms.find(kRoutedShare);
      if (share == s.terms.end()) continue;
      sum = sum.defined() ? sum + share->second : share->second;
      tokens += s.num_tokens;
    }
    if (!sum.defined())
      fail(ErrorKind::config, "loss routed_budget: layer {} has no routed share; it needs join = 'cmr'{}", layers[0].layer,
           layers.size() > 1 ? ", and no other layer has one" : ", or layer_reduce = 'pooled' when other layers have it");
    return tokens == 0 ? sum * 0 : (sum / static_cast<double>(tokens) - budget_).abs();
  }

 private:
  double budget_;
};

}  // namespace

LossEntry loss_routed_budget() {
  return plug_in<RoutedBudget, LossEntry>("routed_budget", "arXiv:2207.04672", "mean routed share of a mixing join against a budget");
}

}  // namespace switchyard
