#include "core/chain_gate.h"

#include "core/cv_squared.h"
#include "core/expected_load.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

// The blocks score true and null experts alike; null ones are the last.
GateShape with_null_experts(GateShape shape, int64_t null_experts) {
  if (null_experts < 0) fail(ErrorKind::config, "null_experts = {} in layers.{}.ffn.gate, expected 0 or more", null_experts, shape.layer);
  shape.num_experts += null_experts;
  return shape;
}

torch::Tensor spread(const torch::Tensor& of_unit, const torch::Tensor& unit_of) {
  return of_unit.defined() && unit_of.defined() ? of_unit.index_select(0, unit_of) : of_unit;
}

// A unit of padding alone chooses nobody.
void drop_padding_units(const torch::Tensor& valid, gates::Selection& chosen, torch::Tensor& weights) {
  chosen.ids = chosen.ids.masked_fill(~valid.unsqueeze(1), -1);
  weights = weights.masked_fill(~valid.unsqueeze(1), 0);
}

// Null choices become "no expert"; the weights of the true ones sum to 1 again.
void drop_null_choices(int64_t num_experts, gates::Selection& chosen, torch::Tensor& weights) {
  const auto true_expert = (chosen.ids >= 0) & (chosen.ids < num_experts);
  chosen.ids = at::where(true_expert, chosen.ids, torch::full({}, -1, torch::kInt64));
  weights = weights.masked_fill(~true_expert, 0);
  weights = weights / weights.sum(-1, /*keepdim=*/true).clamp_min(1e-20);
}

// L = (N + M) sum_i f~_i P_i over N true and M null experts; f~ of a null expert is the mean over all of them, so that
// they are balanced as one pool (AdaMoE, arXiv:2406.13233). Uniform choice of K gives K.
torch::Tensor null_balance(const gates::Scored& s, const torch::Tensor& ids, int64_t num_experts) {
  const int64_t all = s.probs.size(1);
  const auto valid_ids = s.valid.defined() ? ids.masked_fill(~s.valid.unsqueeze(1), -1) : ids;
  const auto probs = s.valid.defined() ? s.probs.index({s.valid}) : s.probs;
  auto f = at::bincount(valid_ids.reshape({-1}) + 1, {}, all + 1).slice(0, 1).to(torch::kFloat32) / static_cast<double>(std::max<int64_t>(1, probs.size(0)));
  f.slice(0, num_experts).fill_(f.slice(0, num_experts).mean());
  return static_cast<double>(all) * (f * (probs.size(0) > 0 ? probs.mean(0) : probs.sum(0))).sum();
}

// Balance of a gate that merges k of its experts, over units, each counted once: a mix leaves nothing else to count.
//   importance = CV(sum of weights)^2,  load = CV(expected load)^2 under learned noise, without it of the choices
// (arXiv:1701.06538 appendix A; MEO, arXiv:2310.09832).
void add_merge_balance(gates::Scored& s, const torch::Tensor& ids, const torch::Tensor& mix) {
  const auto counted = [&](const torch::Tensor& x) { return s.valid.defined() ? x.index({s.valid}) : x; };
  s.terms["importance"] = cv_squared(counted(mix).sum(0));
  const auto load = s.noise_std.defined() ? chance_to_be_chosen(counted(s.logits), counted(s.noisy), counted(s.noise_std), ids.size(1)).sum(0)
                                          : at::bincount(counted(ids).reshape({-1}) + 1, {}, mix.size(1) + 1).slice(0, 1).to(mix.scalar_type());
  s.terms["load"] = cv_squared(load);
}

}  // namespace

ChainGate::ChainGate(const Options& o, const GateShape& place)
    : num_experts_(place.num_experts), null_experts_(o.null_experts), mix_parameters_(o.combine == "parameters") {
  const GateShape shape = with_null_experts(place, o.null_experts);
  pool_ = register_module("pool", gates::poolers().make(o.pool, shape));
  score_ = register_module("score", gates::scorers().make(o.score, shape));
  noise_ = register_module("noise", gates::noisers().make(o.noise, shape));
  normalise_ = register_module("normalise", gates::normalisers().make(o.normalise, shape));
  balance_ = register_module("balance", gates::balancers().make(o.balance, shape));
  select_ = register_module("select", gates::selectors().make(o.select, shape));
  weigh_ = register_module("weigh", gates::weighers().make(o.weigh, shape));
  keep_ = register_module("keep", gates::keepers().make(o.keep, shape));
  if (o.combine != "outputs" && o.combine != "parameters")
    fail(ErrorKind::config, "gate: combine = '{}' in layers.{}.ffn, expected outputs or parameters", o.combine, shape.layer);
  if (select_->experts_per_token() == 1 && weigh_->constant_for_one() && !o.allow_constant_weight)
    fail(ErrorKind::config,
         "{}one expert per token with weigh = '{}' always has weight 1, so that the task loss cannot train the router in layer {}; "
         "use weigh = 'raw', or set allow_constant_weight = true",
         o.weigh.options.location(), o.weigh.kind, shape.layer);
}

double ChainGate::experts_per_token() const {
  if (mix_parameters_) return 1;
  const double share = static_cast<double>(num_experts_) / static_cast<double>(num_experts_ + null_experts_);
  return select_->experts_per_token() * share;
}

gates::Scored ChainGate::score(const GateInput& input) {
  const auto pooled = pool_->pool(input);
  gates::Scored s{.input = input, .units = pooled.units, .unit_of = pooled.unit_of};
  if (s.units.scalar_type() != torch::kFloat64) s.units = s.units.to(torch::kFloat32);
  s.valid = s.unit_of.defined() ? pooled.valid : input.valid;
  s.logits = s.noisy = score_->score(noise_->on_input(s.units, input), input);
  noise_->on_logits(s);
  s.probs = normalise_->normalise(s);
  s.ranked = balance_->rank(s);
  return s;
}

Routing ChainGate::route(const GateInput& input) {
  auto s = score(input);
  auto chosen = select_->select(s);
  auto weights = weigh_->weigh(s, chosen);
  keep_->keep(s, chosen, weights);
  if (s.unit_of.defined() && s.valid.defined() && !chosen.by_column) drop_padding_units(s.valid, chosen, weights);
  if (null_experts_ > 0) {
    s.terms["null_balance"] = null_balance(s, chosen.ids, num_experts_);
    drop_null_choices(num_experts_, chosen, weights);
  }
  auto out = mix_parameters_ ? parameters(s, chosen, weights) : outputs(s, std::move(chosen), std::move(weights));
  const bool learned_noise = s.noise_std.defined();
  out.scores = {spread(s.logits, s.unit_of), spread(s.probs, s.unit_of), learned_noise ? spread(s.noisy, s.unit_of) : torch::Tensor(),
                spread(s.noise_std, s.unit_of)};
  out.terms = std::move(s.terms);
  out.loss_scale = balance_->loss_scale();
  return out;
}

Routing ChainGate::outputs(gates::Scored& s, gates::Selection chosen, torch::Tensor weights) const {
  if (!chosen.by_column) return {.choice = TokenChoice{spread(chosen.ids, s.unit_of), spread(weights, s.unit_of)}};
  if (s.unit_of.defined()) fail(ErrorKind::config, "gate: experts that choose among units need pool = 'token'");
  return {.choice = ExpertChoice{chosen.ids, weights}};
}

Routing ChainGate::parameters(gates::Scored& s, const gates::Selection& chosen, const torch::Tensor& weights) const {
  if (chosen.by_column) fail(ErrorKind::config, "gate: combine = 'parameters' needs units that choose experts, not experts that choose units");
  const auto sent = chosen.ids >= 0;
  const auto mix = torch::zeros({s.probs.size(0), num_experts_}, weights.options())
                       .scatter_add(1, chosen.ids.clamp_min(0), weights * sent.to(weights.scalar_type()));
  if (null_experts_ == 0 && chosen.ids.size(1) < num_experts_) add_merge_balance(s, chosen.ids, mix);
  const auto groups = s.unit_of.defined() ? s.unit_of : torch::arange(mix.size(0), torch::kInt64);
  if (!s.valid.defined()) return {.choice = ExpertMix{mix, groups}};
  // Only units that have tokens are worth a merged expert; padding belongs to none.
  const auto number = (at::cumsum(s.valid.to(torch::kInt64), 0) - 1).masked_fill(~s.valid, -1);
  return {.choice = ExpertMix{mix.index({s.valid}), number.index_select(0, groups)}};
}

}  // namespace switchyard
