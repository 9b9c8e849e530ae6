#include "eval/eval_rule.h"

#include "eval/batch_tensors.h"
#include "models/eval_mode.h"
#include "models/with_spec.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace switchyard {
namespace {

constexpr int64_t kCachedBlocks = 100;  // arXiv:2108.05036 section 5

DomainMixtureOptions mixture_of(const EvalRule& rule) {
  if (rule.domains > 0) return {.domains = rule.domains, .update_blocks = rule.prior == "updating" ? -1 : rule.prior == "cached" ? kCachedBlocks : 0};
  std::vector<double> prior(static_cast<size_t>(rule.tag) + 1, 0);
  prior.back() = 1;
  return {.domains = rule.tag + 1, .prior = prior};
}

torch::Tensor logits_of(LanguageModel& model, const TokenBatch& tokens, int64_t first_token) {
  const auto logits = model.logits(model.forward(tokens, {.first_token = first_token}).hidden);
  return logits.reshape({-1, logits.size(-1)});
}

std::optional<EvalResult> evaluate_contrast(LanguageModel& strong, const data::TokenStream& text, const EvalOptions& options, const ContrastOptions& contrast,
                                            const std::function<bool()>& stop) {
  const EvalMode mode(strong);
  const auto weak = with_ranks(strong, contrast.ranks);
  const auto scores = [&](const data::Batch& batch, int64_t first_token) {
    const LabelledBatch tensors = to_tensors(batch);
    const ComputeScope scope(options.compute);
    const auto said = logits_of(strong, tensors.tokens, first_token);
    const auto z = (1 + contrast.beta) * said - contrast.beta * logits_of(*weak, tensors.tokens, first_token);
    const auto plausible = said >= said.amax(-1, /*keepdim=*/true) + std::log(contrast.alpha);
    CellScores out = cell_scores(z.masked_fill(~plausible, -std::numeric_limits<float>::infinity()), tensors.labels);
    out.losses = cell_scores(z, tensors.labels).losses;
    return out;
  };
  return evaluate_scores(strong, text, options, scores, stop);
}

std::optional<DomainMixtureResult> plain(const std::optional<EvalResult>& result) {
  return result ? std::optional(DomainMixtureResult{*result, {}, {}}) : std::nullopt;
}

}  // namespace

void check_rule(const EvalRule& rule) {
  check_contrast(rule.contrast);
  if (rule.prior != "uniform" && rule.prior != "updating" && rule.prior != "cached")
    fail(ErrorKind::usage, "prior = '{}', expected uniform, updating or cached", rule.prior);
  if (rule.domains < 0 || rule.tag < -1) fail(ErrorKind::usage, "domains = {}, tag = {}: expected domains of at least 0 and a tag of at least -1", rule.domains, rule.tag);
  if ((rule.domains > 0) + (rule.tag >= 0) + (rule.contrast.beta > 0) > 1) fail(ErrorKind::usage, "domains, tag and contrast exclude each other");
}

std::optional<DomainMixtureResult> evaluate_rule(LanguageModel& model, const data::TokenStream& text, const EvalOptions& options, const EvalRule& rule,
                                                 const std::function<bool()>& stop) {
  check_rule(rule);
  std::shared_ptr<LanguageModel> changed;
  if (!rule.set.empty()) changed = with_spec(model, changed_spec(model.spec(), rule.set));
  LanguageModel& used = changed ? *changed : model;
  if (rule.domains > 0 || rule.tag >= 0) return evaluate_domain_mixture(used, text, options, mixture_of(rule), stop);
  return plain(rule.contrast.beta > 0 ? evaluate_contrast(used, text, options, rule.contrast, stop) : evaluate(used, text, options, stop));
}

}  // namespace switchyard
