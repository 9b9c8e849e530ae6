#include "infer/sampling.h"

#include "switchyard/error.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

namespace switchyard {
namespace {

void renormalise(std::vector<Candidate>& candidates) {
  double sum = 0;
  for (const Candidate& c : candidates) sum += c.prob;
  for (Candidate& c : candidates) c.prob /= sum;
}

void check_range(const char* name, double value, double low, double high, const char* range) {
  if (!(value >= low && value <= high)) fail(ErrorKind::usage, "{} = {}: expected {}", name, value, range);
}

}  // namespace

void check_sampling(const SamplingOptions& options) {
  check_range("temperature", options.temperature, 0, 1e6, "0 or a positive number");
  check_range("top_k", static_cast<double>(options.top_k), 0, 1e9, "0 (all) or a positive number");
  check_range("top_p", options.top_p, 1e-12, 1, "a number in (0, 1]");
  check_range("min_p", options.min_p, 0, 1, "a number in [0, 1]");
  check_range("repetition_penalty", options.repetition_penalty, 1e-6, 1e6, "a positive number");
}

int32_t most_probable(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 1; i < logits.size(); ++i)
    if (logits[i] > logits[best] || (std::isnan(logits[best]) && !std::isnan(logits[i]))) best = i;
  return static_cast<int32_t>(best);
}

void penalise_repetition(std::span<float> logits, std::span<const int32_t> seen, double penalty) {
  if (penalty == 1.0) return;
  const std::unordered_set<int32_t> once(seen.begin(), seen.end());
  for (const int32_t id : once)
    if (id >= 0 && static_cast<size_t>(id) < logits.size())
      logits[id] = static_cast<float>(logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty);
}

std::vector<Candidate> candidates_from(std::span<const float> logits, double temperature) {
  std::vector<Candidate> out;
  if (logits.empty()) return out;
  const double largest = logits[static_cast<size_t>(most_probable(logits))];
  if (!std::isfinite(largest)) return out;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double p = std::exp((static_cast<double>(logits[i]) - largest) / temperature);
    if (p > 0) out.push_back({static_cast<int32_t>(i), p});  // false for NaN
  }
  // By the logits, not by the rounded probabilities.
  std::stable_sort(out.begin(), out.end(), [&](const Candidate& a, const Candidate& b) {
    return logits[static_cast<size_t>(a.id)] > logits[static_cast<size_t>(b.id)];
  });
  renormalise(out);
  return out;
}

void keep_top_k(std::vector<Candidate>& candidates, int64_t k) {
  if (k <= 0 || k >= static_cast<int64_t>(candidates.size())) return;
  candidates.resize(static_cast<size_t>(k));
  renormalise(candidates);
}

void keep_top_p(std::vector<Candidate>& candidates, double p) {
  if (p >= 1) return;
  double sum = 0;
  size_t kept = 0;
  while (kept < candidates.size() && (kept == 0 || sum < p)) sum += candidates[kept++].prob;
  candidates.resize(kept);
  renormalise(candidates);
}

void keep_min_p(std::vector<Candidate>& candidates, double p) {
  if (p <= 0 || candidates.empty()) return;
  const double least = p * candidates.front().prob;
  size_t kept = 1;
  while (kept < candidates.size() && candidates[kept].prob >= least) ++kept;
  candidates.resize(kept);
  renormalise(candidates);
}

int32_t draw(std::span<const Candidate> candidates, double u) {
  double sum = 0;
  for (const Candidate& c : candidates)
    if (u < (sum += c.prob)) return c.id;
  return candidates.back().id;  // u above the rounded sum
}

int32_t sample_token(std::span<float> logits, std::span<const int32_t> seen, const SamplingOptions& options, double u) {
  penalise_repetition(logits, seen, options.repetition_penalty);
  const int32_t best = most_probable(logits);
  if (logits.empty() || !std::isfinite(logits[static_cast<size_t>(best)]))
    fail(ErrorKind::numeric, "no finite logit among {} for the next token; are the weights damaged?", logits.size());
  if (options.temperature == 0) return best;
  auto candidates = candidates_from(logits, options.temperature);
  keep_top_k(candidates, options.top_k);
  keep_top_p(candidates, options.top_p);
  keep_min_p(candidates, options.min_p);
  return draw(candidates, u);
}

}  // namespace switchyard
