#include "core/one_per_sequence.h"

#include "core/sequences.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard {

RoutingStats one_per_sequence(const RoutingStats& stats, const char* loss) {
  if (!stats.sequence_ids.defined() || !stats.expert_ids.defined())
    fail(ErrorKind::config, "loss {}: unit = 'sequence' needs sequences of tokens that choose experts, and layer {} has none", loss, stats.layer);
  const auto [names, sequence] = at::_unique(stats.sequence_ids, /*sorted=*/true, /*return_inverse=*/true);
  const auto rows = (places_in(sequence, names.size(0)) == 0).nonzero().squeeze(1);
  const auto take = [&](const torch::Tensor& x) { return x.defined() ? x.index_select(0, rows) : x; };
  const auto count = [&](const torch::Tensor& ids) { return at::bincount(ids.reshape({-1}) + 1, {}, stats.num_experts + 1).slice(0, 1).to(torch::kFloat32); };
  RoutingStats out = stats;
  out.num_tokens = rows.size(0);
  for (torch::Tensor* x : {&out.expert_ids, &out.weights, &out.sequence_ids, &out.tags, &out.token_loss, &out.scores.logits, &out.scores.probs,
                           &out.scores.noisy, &out.scores.noise_std})
    *x = take(*x);
  out.counts = out.kept_counts = count(out.expert_ids);
  out.first_counts = count(out.expert_ids.slice(1, 0, 1));
  return out;
}

}  // namespace switchyard
