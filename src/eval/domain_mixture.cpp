#include "eval/domain_mixture.h"

#include "core/beside.h"
#include "eval/batch_tensors.h"
#include "models/eval_mode.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {
namespace domain_mixture {

torch::Tensor posteriors(const torch::Tensor& log_likelihood, const torch::Tensor& log_prior, bool history) {
  const auto likelihood = log_likelihood.to(torch::kFloat64);
  const auto prior = log_prior.to(torch::kFloat64).unsqueeze(0);
  // Row t knows the tokens before t: all of them, or the last one.
  const auto known = at::cat({torch::zeros_like(prior), history ? likelihood.cumsum(0) : likelihood}, 0);
  return at::log_softmax(known + prior, -1);
}

torch::Tensor losses(const torch::Tensor& log_likelihood, const torch::Tensor& log_posteriors) {
  return -at::logsumexp(log_likelihood.to(torch::kFloat64) + log_posteriors.slice(0, 0, log_likelihood.size(0)), {-1});
}

torch::Tensor moving_average(const torch::Tensor& average, const torch::Tensor& posterior, double newest) {
  return average.defined() ? (1 - newest) * average + newest * posterior : posterior;
}

}  // namespace domain_mixture

namespace {

torch::Tensor start_prior(const DomainMixtureOptions& o) {
  if (o.domains < 1) fail(ErrorKind::config, "domain mixture: domains = {}, expected at least 1", o.domains);
  if (!(o.newest > 0 && o.newest <= 1)) fail(ErrorKind::config, "domain mixture: newest = {}, expected more than 0, at most 1", o.newest);
  if (o.prior.empty()) return torch::full({o.domains}, 1.0 / static_cast<double>(o.domains), torch::kFloat64);
  double sum = 0;
  for (const double p : o.prior) sum += p >= 0 ? p : std::nan("");
  if (static_cast<int64_t>(o.prior.size()) != o.domains || !(std::abs(sum - 1) < 1e-3))
    fail(ErrorKind::config, "domain mixture: the prior has {} numbers with the sum {}, expected {} that sum to 1", o.prior.size(), sum, o.domains);
  return torch::tensor(o.prior, torch::kFloat64) / sum;
}

// Walks over the blocks of a text in order.
class DomainMixer {
 public:
  DomainMixer(LanguageModel& model, const EvalOptions& options, const DomainMixtureOptions& mixture)
      : model_(model), compute_(options.compute), o_(mixture), prior_(start_prior(mixture)), used_(torch::zeros_like(prior_)) {}

  std::vector<double> losses(const data::Batch& batch, int64_t first_token) {
    const auto likelihood = log_likelihood(batch, first_token);
    std::vector<double> out(batch.labels.size(), 0);
    for (int64_t begin = 0, end = 0; begin < likelihood.size(0); begin = end) {
      for (end = begin + 1; end % batch.seq != 0 && segment(batch, end) == segment(batch, begin);) ++end;
      if (segment(batch, begin) >= 0) mix(batch, likelihood.slice(0, begin, end), begin, out);
    }
    return out;
  }

  [[nodiscard]] std::vector<double> prior() const { return numbers(prior_); }
  [[nodiscard]] std::vector<double> mean_posterior() const { return numbers(used_ / used_.sum()); }

 private:
  static int32_t segment(const data::Batch& batch, int64_t cell) { return batch.segments[static_cast<size_t>(cell)]; }
  static std::vector<double> numbers(const torch::Tensor& x) {
    const auto flat = x.contiguous();
    return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
  }

  // log p of each label under each domain [batch * seq, J]; 0 where nothing is scored: such a token says nothing of the domain.
  torch::Tensor log_likelihood(const data::Batch& batch, int64_t first_token) {
    LabelledBatch tensors = to_tensors(batch);
    const ComputeScope scope(compute_);
    std::vector<torch::Tensor> columns;
    for (int64_t domain = 0; domain < o_.domains; ++domain) {
      if (o_.update_blocks == 0 && prior_[domain].item<double>() == 0) {  // out for good: its expert is not asked
        columns.push_back(torch::zeros({batch.batch * batch.seq}));
        continue;
      }
      tensors.tokens.tags = torch::full_like(tensors.tokens.input_ids, domain);
      const auto logits = model_.logits(model_.forward(tensors.tokens, {.first_token = first_token}).hidden);
      columns.push_back(-on_cpu(ops::cross_entropy(logits.reshape({-1, logits.size(-1)}), tensors.labels)));
    }
    return at::stack(columns, 1).to(torch::kFloat64);
  }

  // One block: its tokens are cells begin, begin + 1, ...
  void mix(const data::Batch& batch, const torch::Tensor& likelihood, int64_t begin, std::vector<double>& out) {
    const auto posteriors = domain_mixture::posteriors(likelihood, prior_.log(), o_.history);
    const auto losses = domain_mixture::losses(likelihood, posteriors);
    for (int64_t i = 0; i < likelihood.size(0); ++i) {
      if (batch.labels[static_cast<size_t>(begin + i)] == data::kIgnoredLabel) continue;
      out[static_cast<size_t>(begin + i)] = losses[i].item<double>();
      used_ += posteriors[i].exp();
    }
    if (o_.update_blocks >= 0 && blocks_ >= o_.update_blocks) return;
    // The block as a whole, whatever the prior was.
    const auto said = domain_mixture::posteriors(likelihood, torch::zeros_like(prior_));
    average_ = domain_mixture::moving_average(average_, said[likelihood.size(0)].exp(), o_.newest);
    prior_ = average_;
    ++blocks_;
  }

  LanguageModel& model_;
  ComputeType compute_;
  DomainMixtureOptions o_;
  torch::Tensor prior_, average_, used_;  // [J] float64
  int64_t blocks_ = 0;
};

}  // namespace

std::optional<DomainMixtureResult> evaluate_domain_mixture(LanguageModel& model, const data::TokenStream& text, const EvalOptions& options,
                                                           const DomainMixtureOptions& mixture, const std::function<bool()>& stop) {
  const EvalMode mode(model);
  DomainMixer mixer(model, options, mixture);
  const auto result = evaluate_scores(model, text, options, [&](const data::Batch& batch, int64_t first) { return CellScores{mixer.losses(batch, first), {}}; }, stop);
  if (!result) return std::nullopt;
  return DomainMixtureResult{*result, mixer.prior(), mixer.mean_posterior()};
}

}  // namespace switchyard
