// Balance inside each sequence:  L = mean over sequences of  E * sum_e f_e P_e  with counts and means of that sequence alone.
//   f_e = share of the sequence's (token, choice) pairs that chose e,  P_e = mean over its tokens of p_te / sum_j p_tj
// (softmax probabilities sum to 1 already). Even load inside each sequence gives 1.
// Source: DeepSeek-V2, arXiv:2405.04434 section 2.2.3 (expert level); DeepSeek-V3, arXiv:2412.19437 equations 17 to 20.
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
    if (!s.scores.probs.defined() || !s.expert_ids.defined())
      fail(ErrorKind::config, "loss sequence_balance: in layer {} tokens do not choose experts by probability", s.layer);
    if (s.num_tokens == 0) return s.scores.probs.sum();
    const auto of = s.sequence_ids.defined() ? s.sequence_ids : torch::zeros({s.num_tokens}, torch::kInt64);
    const auto [names, sequence, lengths] = at::_unique2(of, /*sorted=*/true, /*return_inverse=*/true, /*return_counts=*/true);
    const int64_t n = names.size(0), experts = s.num_experts;
    const auto length = lengths.to(torch::kFloat32).unsqueeze(1);  // [n, 1]
    const auto pair = at::where(s.expert_ids >= 0, sequence.unsqueeze(1) * experts + s.expert_ids, torch::full({}, n * experts, torch::kInt64));
    const auto f = at::bincount(pair.reshape({-1}), {}, n * experts + 1).slice(0, 0, n * experts).view({n, experts}).to(torch::kFloat32) /
                   (length * static_cast<double>(s.top_k));
    const auto share = s.scores.probs / s.scores.probs.sum(-1, /*keepdim=*/true).clamp_min(1e-20);
    const auto p = torch::zeros({n, experts}, share.options()).index_add(0, sequence, share) / length;
    return static_cast<double>(experts) * (f * p).sum(1).mean();
  }
};

}  // namespace

LossEntry loss_sequence_balance() {
  return plug_in<SequenceBalance, LossEntry>("sequence_balance", "arXiv:2412.19437", "even load inside each sequence");
}

}  // namespace switchyard
