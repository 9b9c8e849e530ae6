// L = -sum_e ln q_e = -ln prod_e q_e,  q_e = mean over tokens of p_te: keeps a gate from giving everything to one expert. Least at
// q = 1/E, where it is E ln E; it grows without bound when an expert gets nothing. With layer_reduce = "pooled" q is the mean over
// the layers, too, as in its source: MoLE, arXiv:2404.13628 section 3.2.
// Departs from the paper: q is a mean over the tokens of the call as well, where the paper has one example.
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class LogBalance final : public LossTerm {
 public:
  using Options = NoOptions;
  explicit LogBalance(const Options&) {}

  torch::Tensor value(const RoutingStats& s) const override {
    if (!s.scores.probs.defined()) fail(ErrorKind::config, "loss log_balance: the gate of layer {} has no probabilities", s.layer);
    if (s.scores.probs.size(0) == 0) return s.scores.probs.sum();
    return -s.scores.probs.mean(0).clamp_min(1e-20).log().sum();
  }
};

}  // namespace

LossEntry loss_log_balance() { return plug_in<LogBalance, LossEntry>("log_balance", "arXiv:2404.13628", "minus the log of the product of mean probabilities"); }

}  // namespace switchyard
