// DEMix at inference: a text of unknown domain is predicted by all domain experts at once, mixed by how well each has predicted
// the text so far.
//
//   p(x_t | x_<t) = sum_j p(x_t | x_<t, D = j) p(D = j | x_<t)        p(D = j | x_<t) ~ p(D = j) prod_{s<t} p(x_s | x_<s, D = j)
//
// p(. | D = j) is the whole model with tag j on every token: one forward pass per domain. The text falls into blocks (the segments
// of its windows); every block begins at the prior. Priors: uniform or given; updating, an exponential moving average over the
// blocks before of what each says of its domain (its posterior from a uniform prior); cached, that average as it stands after a
// number of blocks. history = false is the posterior of the released code, which looks at the last token alone.
// Source: Gururangan et al., arXiv:2108.05036 section 5; training is gates/by_tag.cpp.
#pragma once

#include "eval/evaluate.h"

namespace switchyard {

// All in the log domain, [J] or [T, J] float64; a domain with prior 0 (-inf) is out.
namespace domain_mixture {

// log p(D | x_<t) for t = 0 .. T from log p(x_t | x_<t, D) [T, J] and a log prior [J] -> [T + 1, J]; rows sum to 1 as numbers.
[[nodiscard]] torch::Tensor posteriors(const torch::Tensor& log_likelihood, const torch::Tensor& log_prior, bool history = true);
// Loss of each token under the mixture [T].
[[nodiscard]] torch::Tensor losses(const torch::Tensor& log_likelihood, const torch::Tensor& log_posteriors);
// (1 - newest) average + newest posterior, of probabilities [J]; an undefined average begins with the posterior.
[[nodiscard]] torch::Tensor moving_average(const torch::Tensor& average, const torch::Tensor& posterior, double newest);

}  // namespace domain_mixture

struct DomainMixtureOptions {
  int64_t domains = 0;                // tags 0 .. domains - 1
  std::vector<double> prior = {};     // of the domains, at the start; empty = uniform
  int64_t update_blocks = 0;          // the prior follows the first so many blocks (cached: 100); -1 = all of them (updating)
  double newest = 0.3;                // weight of the newest block in the average
  bool history = true;
};

struct DomainMixtureResult {
  EvalResult eval;
  std::vector<double> prior;      // as it stands at the end: the cached prior for another text
  std::vector<double> posterior;  // mean over the scored tokens of what each was predicted with
};

// As evaluate(); tags of the text itself are not used. Throws Error{config} for priors that are no probabilities.
[[nodiscard]] std::optional<DomainMixtureResult> evaluate_domain_mixture(LanguageModel& model, const data::TokenStream& text, const EvalOptions& options,
                                                                         const DomainMixtureOptions& mixture, const std::function<bool()>& stop = {});

}  // namespace switchyard
