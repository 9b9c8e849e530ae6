#include "core/rewards.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard {

Rewards rewards_of(const RoutingStats& s, const char* loss) {
  if (!s.token_loss.defined())
    fail(ErrorKind::config, "loss {}: layer {} was not told the task loss of each token; training a model does, a layer by itself needs RoutingStats::token_loss", loss, s.layer);
  const auto rows = at::nonzero(s.token_loss.isfinite()).view({-1});
  return {rows, -s.token_loss.detach().index_select(0, rows)};
}

torch::Tensor learned_baseline(const RoutingStats& s, const Rewards& rewards, const char* loss) {
  const auto found = s.terms.find("baseline");
  if (found == s.terms.end() || found->second.dim() != 1)
    fail(ErrorKind::config, "loss {}: the gate of layer {} estimates no baseline; use select = {{ kind = \"sample\", baseline = true }}", loss, s.layer);
  return found->second.index_select(0, rewards.rows);
}

}  // namespace switchyard
