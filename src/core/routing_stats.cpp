#include "switchyard/routing_stats.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {
namespace {

// Histogram of ids in 0..E-1; -1 counts nowhere.
torch::Tensor count_ids(const torch::Tensor& ids, int64_t num_experts) {
  const auto flat = ids.reshape({-1}) + 1;
  return at::bincount(flat, {}, num_experts + 1).slice(0, 1).to(torch::kFloat32);
}

// Rows of the valid tokens only; the common case without padding copies nothing.
torch::Tensor valid_rows(const torch::Tensor& rows, const torch::Tensor& valid) {
  if (!rows.defined() || !valid.defined()) return rows;
  return rows.index({valid});
}

// Tokens of which no logit is finite, or no probability a number (one infinite logit is enough): they choose nobody.
int64_t count_without_score(const Scores& scores) {
  if (!scores.logits.defined()) return 0;
  const auto all_finite = [](const torch::Tensor& x) { return !x.defined() || std::isfinite(x.detach().sum().item<double>()); };
  if (all_finite(scores.logits) && all_finite(scores.probs)) return 0;  // as a rule: one pass instead of six
  auto without = ~scores.logits.detach().isfinite().any(-1);
  if (scores.probs.defined()) without = without | scores.probs.detach().isnan().all(-1);
  return without.sum().item<int64_t>();
}

torch::Tensor join(std::span<const RoutingStats> parts, torch::Tensor RoutingStats::*member) {
  std::vector<torch::Tensor> rows;
  for (const auto& part : parts)
    if ((part.*member).defined()) rows.push_back(part.*member);
  return rows.size() == parts.size() ? at::cat(rows, 0) : torch::Tensor();
}

torch::Tensor join(std::span<const RoutingStats> parts, torch::Tensor Scores::*member) {
  std::vector<torch::Tensor> rows;
  for (const auto& part : parts)
    if ((part.scores.*member).defined()) rows.push_back(part.scores.*member);
  return rows.size() == parts.size() ? at::cat(rows, 0) : torch::Tensor();
}

}  // namespace

double RoutingStats::dropped_fraction() const {
  const double wanted = counts.sum().item<double>();
  return wanted == 0 ? 0 : 1 - kept_counts.sum().item<double>() / wanted;
}

double RoutingStats::load_cv() const {
  const auto c = counts.to(torch::kFloat64);
  const double mean = c.mean().item<double>();
  return mean == 0 ? 0 : std::sqrt((c - mean).square().mean().item<double>()) / mean;
}

double RoutingStats::load_cv_floor() const {
  const double pairs = counts.sum().item<double>();
  return pairs == 0 ? 0 : std::sqrt(static_cast<double>(num_experts - 1) / pairs);
}

double RoutingStats::entropy() const {
  if (!scores.probs.defined() || num_tokens == 0) return 0;
  const auto p = scores.probs.detach();
  return -(p * p.clamp_min(1e-30).log()).sum(-1).mean().item<double>();
}

RoutingStats routing_stats(const Routing& routing, const torch::Tensor& kept, const GateInput& input, int64_t layer, int64_t num_experts,
                           const torch::Tensor& wanted) {
  RoutingStats s{.layer = layer, .num_experts = num_experts};
  s.num_tokens = input.valid.defined() ? input.valid.sum().item<int64_t>() : input.hidden.size(0);
  const auto rows = [&](const torch::Tensor& of_token) { return valid_rows(of_token, input.valid); };
  s.scores = {rows(routing.scores.logits), rows(routing.scores.probs), rows(routing.scores.noisy), rows(routing.scores.noise_std)};
  s.sequence_ids = rows(input.sequence_ids);
  s.tags = rows(input.tags);
  s.terms = routing.terms;
  s.loss_scale = routing.loss_scale;
  s.training = input.training;
  s.rows_without_score = count_without_score(s.scores);
  const auto none = torch::zeros({num_experts}, torch::kFloat32);
  if (const auto* choice = std::get_if<TokenChoice>(&routing.choice)) {
    const auto& asked = wanted.defined() ? wanted : choice->expert_ids;
    s.top_k = choice->expert_ids.size(1);
    s.expert_ids = rows(choice->expert_ids);
    s.weights = rows(choice->weights);
    s.counts = count_ids(asked, num_experts);
    s.first_counts = count_ids(asked.slice(1, 0, 1), num_experts);
    s.kept_counts = kept.defined() ? count_ids(at::where(kept, choice->expert_ids, torch::full({}, -1, torch::kInt64)), num_experts) : s.counts;
  } else if (const auto* columns = std::get_if<ExpertChoice>(&routing.choice)) {
    s.top_k = 1;
    s.counts = s.first_counts = s.kept_counts = (columns->token_ids >= 0).sum(1).to(torch::kFloat32);
  } else {
    s.counts = s.first_counts = s.kept_counts = none;  // every expert takes part in every token: there is no load
  }
  return s;
}

namespace {

// What is counted per token cannot be added over calls of different sizes: there is no pooled value.
void add_term(std::map<std::string, torch::Tensor>& terms, const std::string& name, const torch::Tensor& term) {
  const auto found = terms.find(name);
  if (found == terms.end()) terms.emplace(name, term);
  else if (found->second.sizes() == term.sizes()) found->second = found->second + term;
}

}  // namespace

std::vector<torch::Tensor*> differentiable(RoutingStats& s) {
  std::vector<torch::Tensor*> out;
  for (torch::Tensor* tensor : {&s.scores.logits, &s.scores.probs, &s.scores.noisy, &s.scores.noise_std, &s.weights})
    if (tensor->defined()) out.push_back(tensor);
  for (auto& [name, term] : s.terms) out.push_back(&term);
  return out;
}

RoutingStats pooled(std::span<const RoutingStats> layers) {
  if (layers.empty()) fail(ErrorKind::internal, "pooled: no layers");
  RoutingStats out = layers[0];
  out.layer = -1;
  out.num_tokens = out.rows_without_score = 0;
  out.counts = torch::zeros_like(layers[0].counts);
  out.first_counts = torch::zeros_like(out.counts);
  out.kept_counts = torch::zeros_like(out.counts);
  for (const auto& s : layers) {
    if (s.num_experts != out.num_experts || s.top_k != out.top_k)
      fail(ErrorKind::config, "layer_reduce = 'pooled' needs MoE layers of one shape, else 'sum' or 'mean'; layer {} has {} experts and top_k {}, layer {} has {} and {}",
           layers[0].layer, out.num_experts, out.top_k, s.layer, s.num_experts, s.top_k);
    out.num_tokens += s.num_tokens;
    out.rows_without_score += s.rows_without_score;
    out.counts = out.counts + s.counts;
    out.first_counts = out.first_counts + s.first_counts;
    out.kept_counts = out.kept_counts + s.kept_counts;
    for (const auto& [name, term] : s.terms)
      if (&s != &layers[0]) add_term(out.terms, name, term);
  }
  for (auto& [name, term] : out.terms) term = term / static_cast<double>(layers.size());
  out.scores = {join(layers, &Scores::logits), join(layers, &Scores::probs), join(layers, &Scores::noisy), join(layers, &Scores::noise_std)};
  for (const auto member : {&RoutingStats::expert_ids, &RoutingStats::weights, &RoutingStats::sequence_ids, &RoutingStats::tags, &RoutingStats::token_loss})
    out.*member = join(layers, member);
  return out;
}

}  // namespace switchyard
