// Localised balance: even load inside two groups of experts, uneven between them by the type of a sample. With Q [S, E] the summed
// weights of each expert over the tokens of each sample (sequence),
//   Z = I * Q,   I_se = 1 + delta  where (type 1, first half of the experts) or (type 0, second half),  1 - delta  elsewhere
//   L = var(Z) / mean(Z)^2 over all S E elements, unbiased variance;   form = "mean": var(Z) / mean(Z)
// Samples whose tag is in `tags` have type 1. L is 0 where Q is inverse to I: Q[1 + delta] / Q[1 - delta] = (1 - delta) / (1 + delta),
// so that the half with 1 + delta gets LESS of its type; a negative delta turns the halves round. delta = 0 is the importance loss
// over (sample, expert) pairs. One sample alone gives 0, as in the public code.
// Source: LoRAMoE, arXiv:2312.09979 section 3.2; the paper prints form = "mean", its code has the square.
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class LocalizedBalance final : public LossTerm {
 public:
  struct Options {
    double delta = 0.1;
    std::vector<int64_t> tags;
    std::string of = "probs", form = "mean_squared";
    bool per_token = false;
    template <class V> void fields(V&& v) {
      v("delta", delta, "how much the halves differ; -1 to 1");
      v("tags", tags, "tags of the samples of type 1");
      v("of", of, "probs: probabilities of all experts; weights: of the chosen ones");
      v("form", form, "the variance is divided by: mean_squared or mean");
      v("per_token", per_token, "Q is a mean over the tokens of a sample, so that long ones count no more than short ones");
    }
  };

  explicit LocalizedBalance(const Options& o) : o_(o) {
    if (!(o.delta > -1 && o.delta < 1)) fail(ErrorKind::config, "loss localized_balance: delta = {}, expected more than -1 and less than 1", o.delta);
    if (o.of != "probs" && o.of != "weights") fail(ErrorKind::config, "loss localized_balance: of = '{}', expected probs or weights", o.of);
    if (o.form != "mean_squared" && o.form != "mean") fail(ErrorKind::config, "loss localized_balance: form = '{}', expected mean_squared or mean", o.form);
  }

  torch::Tensor value(const RoutingStats& s) const override {
    if (!s.tags.defined() || !s.sequence_ids.defined())
      fail(ErrorKind::usage, "loss localized_balance: needs tags and sequence_ids, one of each for every token; the call of layer {} does not have both", s.layer);
    const auto weight = weights_of(s);  // [n, E]
    const auto [names, sample, length] = at::_unique2(s.sequence_ids, /*sorted=*/true, /*return_inverse=*/true, /*return_counts=*/true);
    const int64_t samples = names.size(0);
    if (samples < 2) return weight.sum() * 0;
    const auto zeros = torch::zeros({samples, s.num_experts}, weight.options().requires_grad(false));
    auto q = zeros.index_add(0, sample, weight);
    if (o_.per_token) q = q / length.to(q.scalar_type()).unsqueeze(1);
    const auto of_type = at::isin(s.tags, torch::tensor(o_.tags, torch::kInt64)).to(torch::kInt64);
    const auto tokens_of_type = torch::zeros({samples}, torch::kInt64).index_add(0, sample, of_type);
    const auto type = (2 * tokens_of_type > length).unsqueeze(1);  // that of most of its tokens
    const auto first_half = (torch::arange(s.num_experts, torch::kInt64) < s.num_experts / 2).unsqueeze(0);
    const auto z = q * at::where(type == first_half, at::full_like(zeros, 1 + o_.delta), at::full_like(zeros, 1 - o_.delta));
    const auto mean = z.mean();
    return z.var(/*unbiased=*/true) / ((o_.form == "mean" ? mean : mean.square()) + 1e-10);
  }

 private:
  [[nodiscard]] torch::Tensor weights_of(const RoutingStats& s) const {
    if (o_.of == "probs") {
      if (!s.scores.probs.defined()) fail(ErrorKind::config, "loss localized_balance: the gate of layer {} has no probabilities; use of = 'weights'", s.layer);
      return s.scores.probs;
    }
    if (!s.weights.defined()) fail(ErrorKind::config, "loss localized_balance: in layer {} tokens choose no experts; use of = 'probs'", s.layer);
    const auto sent = (s.expert_ids >= 0).to(s.weights.scalar_type());
    return torch::zeros({s.weights.size(0), s.num_experts}, s.weights.options().requires_grad(false))
        .scatter_add(1, s.expert_ids.clamp_min(0), s.weights * sent);
  }

  Options o_;
};

}  // namespace

LossEntry loss_localized_balance() {
  return plug_in<LocalizedBalance, LossEntry>("localized_balance", "arXiv:2312.09979", "even load inside halves of the experts, uneven between them by tag");
}

}  // namespace switchyard
