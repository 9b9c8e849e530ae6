// Score-function (REINFORCE) loss of a gate that draws its expert (select = "sample"):
//   L = -mean over tokens of  ln p_t[e_t] * (R_t - b_t),   R_t = -task loss of the token,   no gradient through R and b
// Its gradient is an unbiased estimate of that of the mean task loss; b changes its variance alone. baseline = "learned" takes
// the gate's own estimate (loss `reward_baseline` trains it), "mean" the mean reward of the call, "none" 0.
// Source: RL-R in Clark et al., arXiv:2202.01169 section 3.3; Williams 1992.
#include "core/rewards.h"
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class PolicyGradient final : public LossTerm {
 public:
  struct Options {
    std::string baseline = "learned";
    template <class V> void fields(V&& v) { v("baseline", baseline, "learned: by the gate; mean: of the call; none"); }
  };

  explicit PolicyGradient(const Options& o) : baseline_(o.baseline) {
    if (o.baseline != "learned" && o.baseline != "mean" && o.baseline != "none")
      fail(ErrorKind::config, "loss policy_gradient: baseline = '{}', expected learned, mean or none", o.baseline);
  }

  torch::Tensor value(const RoutingStats& s) const override {
    if (!s.scores.probs.defined() || !s.expert_ids.defined() || s.expert_ids.size(1) != 1)
      fail(ErrorKind::config, "loss policy_gradient: the gate of layer {} does not draw one expert per token", s.layer);
    const Rewards r = rewards_of(s, "policy_gradient");
    if (r.value.numel() == 0) return s.scores.probs.sum() * 0;
    auto advantage = r.value;
    if (baseline_ == "learned") advantage = advantage - learned_baseline(s, r, "policy_gradient").detach();
    if (baseline_ == "mean") advantage = advantage - advantage.mean();
    const auto chosen = s.scores.probs.gather(1, s.expert_ids.clamp_min(0)).select(1, 0).index_select(0, r.rows);
    return -(chosen.clamp_min(1e-20).log() * advantage).mean();
  }

 private:
  std::string baseline_;
};

}  // namespace

LossEntry loss_policy_gradient() {
  return plug_in<PolicyGradient, LossEntry>("policy_gradient", "arXiv:2202.01169", "score-function gradient for gates that draw their expert");
}

}  // namespace switchyard
