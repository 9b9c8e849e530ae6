// Trains the baseline of a gate that learns by reward:  L = mean Huber(R_t - b_t),  Huber(x) = x^2 / 2 for |x| <= 1, |x| - 1/2
// beyond; R_t = -task loss of the token. Source: Clark et al., arXiv:2202.01169 appendix B.
#include "core/rewards.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class RewardBaseline final : public LossTerm {
 public:
  using Options = NoOptions;
  explicit RewardBaseline(const Options&) {}

  torch::Tensor value(const RoutingStats& s) const override {
    const Rewards r = rewards_of(s, "reward_baseline");
    const auto gap = (r.value - learned_baseline(s, r, "reward_baseline")).abs();
    if (gap.numel() == 0) return gap.sum();
    return at::where(gap <= 1, 0.5 * gap.square(), gap - 0.5).mean();
  }
};

}  // namespace

LossEntry loss_reward_baseline() {
  return plug_in<RewardBaseline, LossEntry>("reward_baseline", "arXiv:2202.01169", "fits the baseline that policy_gradient subtracts");
}

}  // namespace switchyard
