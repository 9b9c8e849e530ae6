#include "core/chain_gate.h"

#include "switchyard/error.h"

namespace switchyard {

ChainGate::ChainGate(const Options& o, const GateShape& shape)
    : pool_(register_module("pool", gates::poolers().make(o.pool, shape))),
      score_(register_module("score", gates::scorers().make(o.score, shape))),
      noise_(register_module("noise", gates::noisers().make(o.noise, shape))),
      normalise_(register_module("normalise", gates::normalisers().make(o.normalise, shape))),
      select_(register_module("select", gates::selectors().make(o.select, shape))),
      weigh_(register_module("weigh", gates::weighers().make(o.weigh, shape))) {
  if (select_->experts_per_token() == 1 && weigh_->constant_for_one() && !o.allow_constant_weight)
    fail(ErrorKind::config,
         "{}one expert per token with weigh = '{}' always has weight 1, so that the task loss cannot train the router in layer {}; "
         "use weigh = 'raw', or set allow_constant_weight = true",
         o.weigh.options.location(), o.weigh.kind, shape.layer);
}

Routing ChainGate::route(const GateInput& input) {
  const auto pooled = pool_->pool(input);
  auto units = pooled.units;
  if (units.scalar_type() != torch::kFloat64) units = units.to(torch::kFloat32);
  const auto logits = score_->score(noise_->on_input(units, input), input);  // [U, E]
  const auto noisy = noise_->on_logits(logits, input);
  const auto probs = normalise_->normalise(noisy);
  const auto ids = select_->select(probs.detach());                          // [U, k]
  const auto weights = weigh_->weigh(noisy, probs, ids);
  if (!pooled.unit_of.defined()) return {.choice = TokenChoice{ids, weights}, .scores = {logits, probs}};
  const auto of = pooled.unit_of;
  return {.choice = TokenChoice{ids.index_select(0, of), weights.index_select(0, of)},
          .scores = {logits.index_select(0, of), probs.index_select(0, of)}};
}

}  // namespace switchyard
