// Balance inside each sequence:  L = mean over sequences of  E * sum_e f_e P_e  with counts and means of that sequence alone.
//   f_e = share of the sequence's (token, choice) pairs that chose e,  P_e = mean over its tokens of p_te / sum_j p_tj
// (softmax probabilities sum to 1 already). Even load inside each sequence gives 1.
// Source: DeepSeek-V2, arXiv:2405.04434 section 2.2.3 (expert level); DeepSeek-V3, arXiv:2412.19437 equations 17 to 20.
#include "core/expert_probs.h"
#include "core/sequence_means.h"
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class SequenceBalance final : public LossTerm {
 public:
  using Options = NoOptions;
  explicit SequenceBalance(const Options&) {}

  torch::Tensor value(const RoutingStats& s) const override {
    (void)probs_of_experts(s, "sequence_balance");
    if (!s.expert_ids.defined()) fail(ErrorKind::config, "loss sequence_balance: in layer {} tokens do not choose experts", s.layer);
    if (s.num_tokens == 0) return s.scores.probs.sum();
    const SequenceMeans sequences(s);
    const auto f = sequences.choices_per_token(s.expert_ids, s.num_experts) / static_cast<double>(s.top_k);
    const auto p = sequences.mean(s.scores.probs / s.scores.probs.sum(-1, /*keepdim=*/true).clamp_min(1e-20));
    return static_cast<double>(s.num_experts) * (f * p).sum(1).mean();
  }
};

}  // namespace

LossEntry loss_sequence_balance() {
  return plug_in<SequenceBalance, LossEntry>("sequence_balance", "arXiv:2412.19437", "even load inside each sequence");
}

}  // namespace switchyard
