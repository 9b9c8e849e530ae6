// What a task gives to experts beyond its k best ones:  L = sum over tasks of sum_i (p_i - top(p)_i)^2,  p the mean
// probabilities over the tokens of the task, top(p) the same with all but the k largest set to zero; without tags all tokens
// are one task. 0 when every task uses k experts at most. Source: Mod-Squad, arXiv:2212.08066 and its public code (weight 0.1).
#include "core/sequences.h"
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class TopKSparsity final : public LossTerm {
 public:
  struct Options {
    int64_t k = 4;
    template <class V> void fields(V&& v) { v("k", k, "experts that a task may use for nothing"); }
  };
  explicit TopKSparsity(const Options& o) : k_(o.k) {
    if (k_ < 1) fail(ErrorKind::config, "loss top_k_sparsity: k = {}, expected at least 1", k_);
  }

  torch::Tensor value(const RoutingStats& s) const override {
    if (!s.scores.probs.defined()) fail(ErrorKind::config, "loss top_k_sparsity: the gate of layer {} has no probabilities", s.layer);
    if (s.num_tokens == 0 || k_ >= s.num_experts) return s.scores.probs.sum() * 0;
    const auto task = s.tags.defined() ? s.tags : torch::zeros({s.num_tokens}, torch::kInt64);
    const auto p = means_of(s.scores.probs, task, task.max().item<int64_t>() + 1);
    return std::get<0>(p.sort(1)).slice(1, 0, s.num_experts - k_).square().sum();  // those beyond the k largest
  }

 private:
  int64_t k_;
};

}  // namespace

LossEntry loss_top_k_sparsity() {
  return plug_in<TopKSparsity, LossEntry>("top_k_sparsity", "arXiv:2212.08066", "what a task gives to experts beyond its k best");
}

}  // namespace switchyard
