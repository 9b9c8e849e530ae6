#include "eval/evaluate.h"

#include "data/batches.h"
#include "eval/batch_tensors.h"
#include "models/eval_mode.h"
#include "switchyard/error.h"

#include <cmath>
#include <numbers>
#include <vector>

namespace switchyard {
namespace {

struct Window {
  double loss = 0;     // summed over its tokens
  int64_t tokens = 0;  // scored ones
};

// Appends the windows of one batch. The sums run in token order in double: the batch size does not change them.
void add_windows(const data::Batch& batch, const std::vector<double>& losses, std::vector<Window>& windows) {
  for (int64_t row = 0; row < batch.batch; ++row) {
    Window window;
    for (int64_t i = row * batch.seq; i < (row + 1) * batch.seq; ++i) {
      window.loss += losses[static_cast<size_t>(i)];
      window.tokens += batch.labels[static_cast<size_t>(i)] != data::kIgnoredLabel;
    }
    windows.push_back(window);
  }
}

EvalResult summary(const std::vector<Window>& windows, double bytes_per_token) {
  EvalResult result;
  double sum = 0;
  for (const Window& w : windows) {
    if (w.tokens == 0) continue;
    sum += w.loss;
    result.tokens += w.tokens;
    ++result.windows;
  }
  if (result.tokens == 0) fail(ErrorKind::config, "nothing to evaluate: no token of the chosen windows is scored");
  const double tokens = static_cast<double>(result.tokens), count = static_cast<double>(result.windows);
  result.loss = sum / tokens;
  double squares = 0;
  for (const Window& w : windows) {
    if (w.tokens == 0) continue;
    const double residual = w.loss - result.loss * static_cast<double>(w.tokens);
    squares += residual * residual;
  }
  if (result.windows > 1) result.loss_se = std::sqrt(count / (count - 1) * squares) / tokens;
  result.perplexity = std::exp(result.loss);
  result.perplexity_se = result.perplexity * result.loss_se;
  result.bits_per_byte = result.loss / (std::numbers::ln2 * bytes_per_token);
  return result;
}

}  // namespace

std::optional<EvalResult> evaluate_losses(const LanguageModel& model, const data::TokenStream& text, const EvalOptions& options,
                                          const LossesOfBatch& losses, const std::function<bool()>& stop) {
  const data::EvalBatches batches(text, {.seq_len = options.seq_len,
                                         .batch_size = options.batch_size,
                                         .cross_documents = options.cross_documents,
                                         .max_windows = (options.max_tokens + options.seq_len - 1) / options.seq_len});
  std::vector<Window> windows;
  for (int64_t i = 0; i < batches.size(); ++i) {
    if (stop && stop()) return std::nullopt;
    const auto task = task_of(model, batches.batch(i), RandomStream(0, "mask").at("evaluation", static_cast<uint64_t>(i)));
    add_windows(task, losses(task, static_cast<int64_t>(windows.size()) * task.seq), windows);
  }
  const EvalResult result = summary(windows, batches.bytes_per_token());
  if (!std::isfinite(result.loss)) fail(ErrorKind::numeric, "the loss of the evaluated text is {}: the model's weights or logits are not finite", result.loss);
  return result;
}

std::optional<EvalResult> evaluate(LanguageModel& model, const data::TokenStream& text, const EvalOptions& options,
                                   const std::function<bool()>& stop) {
  const EvalMode mode(model);
  const auto losses = [&](const data::Batch& batch, int64_t first_token) {
    const LabelledBatch tensors = to_tensors(batch);
    const ComputeScope scope(options.compute);
    const torch::Tensor logits = model.logits(model.forward(tensors.tokens, {.first_token = first_token}).hidden);
    const torch::Tensor each = ops::cross_entropy(logits.reshape({-1, logits.size(-1)}), tensors.labels).contiguous();
    return std::vector<double>(each.data_ptr<float>(), each.data_ptr<float>() + each.numel());
  };
  return evaluate_losses(model, text, options, losses, stop);
}

}  // namespace switchyard
