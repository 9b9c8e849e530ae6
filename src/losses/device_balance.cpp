// Device-level balance:  L = sum_d f'_d P'_d  over D groups of E / D consecutive experts
//   f'_d = mean over the experts of d of f_i,  f_i = E / (k T) * tokens that chose i (no gradient)
//   P'_d = sum over the experts of d of P_i,   P_i = mean probability of i
// Even load of the devices gives 1, however uneven the experts of one device are. D = E is the load-balancing loss, D = 1
// is 1 whatever happens. Source: DeepSeekMoE, arXiv:2401.06066 section 3.3 (weight 0.05 for its largest model).
// With scope = "sequence" counts and means are those of each sequence, and L the mean over sequences (DeepSeek-V2,
// arXiv:2405.04434 section 2.2.3). The groups are those of the recipe, not of the ranks that run it: results do not depend on where experts live.
#include "core/expert_probs.h"
#include "core/sequence_means.h"
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class DeviceBalance final : public LossTerm {
 public:
  struct Options {
    int64_t devices = 2;
    std::string scope = "call";
    template <class V> void fields(V&& v) {
      v("devices", devices, "groups of consecutive experts, of equal size");
      v("scope", scope, "call: all tokens; sequence: the mean over sequences");
    }
  };

  explicit DeviceBalance(const Options& o) : devices_(o.devices), per_sequence_(o.scope == "sequence") {
    if (o.scope != "call" && o.scope != "sequence") fail(ErrorKind::config, "loss device_balance: scope = '{}', expected call or sequence", o.scope);
    if (devices_ < 1) fail(ErrorKind::config, "loss device_balance: devices = {}, expected at least 1", devices_);
  }

  torch::Tensor value(const RoutingStats& s) const override {
    (void)probs_of_experts(s, "device_balance");
    if (s.num_experts % devices_ != 0)
      fail(ErrorKind::config, "loss device_balance: devices = {} does not divide num_experts = {} of layer {}", devices_, s.num_experts, s.layer);
    if (s.num_tokens == 0) return s.scores.probs.sum();  // 0, with a graph
    if (per_sequence_) return over_sequences(s);
    const auto f = s.counts * (static_cast<double>(s.num_experts) / static_cast<double>(s.num_tokens * s.top_k));  // [E]
    const auto p = s.scores.probs.mean(0);                                                                         // [E]
    return (f.view({devices_, -1}).mean(1) * p.view({devices_, -1}).sum(1)).sum();
  }

 private:
  [[nodiscard]] torch::Tensor over_sequences(const RoutingStats& s) const {
    const SequenceMeans sequences(s);
    const auto f = sequences.choices_per_token(s.expert_ids, s.num_experts) * (static_cast<double>(s.num_experts) / static_cast<double>(s.top_k));
    const auto p = sequences.mean(s.scores.probs);
    const auto by_device = [&](const torch::Tensor& x) { return x.view({x.size(0), devices_, -1}); };
    return (by_device(f).mean(2) * by_device(p).sum(2)).sum(1).mean();
  }

  int64_t devices_;
  bool per_sequence_;
};

}  // namespace

LossEntry loss_device_balance() {
  return plug_in<DeviceBalance, LossEntry>("device_balance", "arXiv:2401.06066", "even load of groups of experts, not of each expert");
}

}  // namespace switchyard
