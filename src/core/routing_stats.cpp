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

// Scores of the valid tokens only; the common case without padding copies nothing.
torch::Tensor valid_rows(const torch::Tensor& scores, const torch::Tensor& valid) {
  if (!scores.defined() || !valid.defined()) return scores;
  return scores.index({valid});
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

RoutingStats routing_stats(const Routing& routing, const torch::Tensor& kept, const GateInput& input, int64_t layer, int64_t num_experts) {
  RoutingStats s{.layer = layer, .num_experts = num_experts};
  s.num_tokens = input.valid.defined() ? input.valid.sum().item<int64_t>() : input.hidden.size(0);
  s.scores = {valid_rows(routing.scores.logits, input.valid), valid_rows(routing.scores.probs, input.valid)};
  const auto none = torch::zeros({num_experts}, torch::kFloat32);
  if (const auto* choice = std::get_if<TokenChoice>(&routing.choice)) {
    s.top_k = choice->expert_ids.size(1);
    s.counts = count_ids(choice->expert_ids, num_experts);
    s.first_counts = count_ids(choice->expert_ids.slice(1, 0, 1), num_experts);
    s.kept_counts = kept.defined() ? count_ids(at::where(kept, choice->expert_ids, torch::full({}, -1, torch::kInt64)), num_experts) : s.counts;
    if (s.scores.logits.defined())
      s.rows_without_score = (~s.scores.logits.detach().isfinite().any(-1)).sum().item<int64_t>();
  } else if (const auto* columns = std::get_if<ExpertChoice>(&routing.choice)) {
    s.top_k = 1;
    s.counts = s.first_counts = s.kept_counts = (columns->token_ids >= 0).sum(1).to(torch::kFloat32);
  } else {
    s.counts = s.first_counts = s.kept_counts = none;  // every expert takes part in every token: there is no load
  }
  return s;
}

RoutingStats pooled(std::span<const RoutingStats> layers) {
  if (layers.empty()) fail(ErrorKind::internal, "pooled: no layers");
  RoutingStats out = layers[0];
  std::vector<torch::Tensor> logits, probs;
  out.layer = -1;
  out.num_tokens = out.rows_without_score = 0;
  out.counts = torch::zeros_like(layers[0].counts);
  out.first_counts = torch::zeros_like(out.counts);
  out.kept_counts = torch::zeros_like(out.counts);
  for (const auto& s : layers) {
    if (s.num_experts != out.num_experts || s.top_k != out.top_k)
      fail(ErrorKind::config, "layer_reduce = 'pooled' needs MoE layers of one shape; layer {} has {} experts and top_k {}, layer {} has {} and {}",
           layers[0].layer, out.num_experts, out.top_k, s.layer, s.num_experts, s.top_k);
    out.num_tokens += s.num_tokens;
    out.rows_without_score += s.rows_without_score;
    out.counts = out.counts + s.counts;
    out.first_counts = out.first_counts + s.first_counts;
    out.kept_counts = out.kept_counts + s.kept_counts;
    if (s.scores.logits.defined()) logits.push_back(s.scores.logits);
    if (s.scores.probs.defined()) probs.push_back(s.scores.probs);
  }
  out.scores = {logits.empty() ? torch::Tensor() : at::cat(logits, 0), probs.empty() ? torch::Tensor() : at::cat(probs, 0)};
  return out;
}

}  // namespace switchyard
