#include "eval/evaluate.h"

#include "core/beside.h"
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
  int64_t right = 0;   // of them
};

// Appends the windows of one batch. The sums run in token order in double: the batch size does not change them.
void add_windows(const data::Batch& batch, const CellScores& scores, std::vector<Window>& windows) {
  for (int64_t row = 0; row < batch.batch; ++row) {
    Window window;
    for (auto i = static_cast<size_t>(row * batch.seq); i < static_cast<size_t>((row + 1) * batch.seq); ++i) {
      const bool scored = batch.labels[i] != data::kIgnoredLabel;
      window.loss += scores.losses[i];
      window.tokens += scored;
      window.right += scored && !scores.right.empty() && scores.right[i];
    }
    windows.push_back(window);
  }
}

EvalResult summary(const std::vector<Window>& windows, double bytes_per_token, bool knows_right) {
  EvalResult result;
  double sum = 0, right = 0;
  for (const Window& w : windows) {
    if (w.tokens == 0) continue;
    sum += w.loss;
    right += static_cast<double>(w.right);
    result.tokens += w.tokens;
    ++result.windows;
  }
  if (result.tokens == 0) fail(ErrorKind::config, "nothing to evaluate: no token of the chosen windows is scored");
  const double tokens = static_cast<double>(result.tokens), count = static_cast<double>(result.windows);
  result.loss = sum / tokens;
  if (knows_right) result.accuracy = right / tokens;
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

CellScores cell_scores(const torch::Tensor& logits, const torch::Tensor& labels) {
  const auto losses = on_cpu(ops::cross_entropy(logits, labels)).contiguous(), best = on_cpu(logits.argmax(-1)), right = (best == labels).contiguous();
  return {std::vector<double>(losses.data_ptr<float>(), losses.data_ptr<float>() + losses.numel()),
          std::vector<bool>(right.data_ptr<bool>(), right.data_ptr<bool>() + right.numel())};
}

std::optional<EvalResult> evaluate_scores(const LanguageModel& model, const data::TokenStream& text, const EvalOptions& options,
                                          const ScoresOfBatch& scores, const std::function<bool()>& stop) {
  const data::EvalBatches batches(text, {.seq_len = options.seq_len,
                                         .batch_size = options.batch_size,
                                         .cross_documents = options.cross_documents,
                                         .max_windows = (options.max_tokens + options.seq_len - 1) / options.seq_len});
  std::vector<Window> windows;
  bool knows_right = true;
  for (int64_t i = 0; i < batches.size(); ++i) {
    if (stop && stop()) return std::nullopt;
    const auto task = task_of(model, batches.batch(i), RandomStream(0, "mask").at("evaluation", static_cast<uint64_t>(i)));
    const CellScores cells = scores(task, static_cast<int64_t>(windows.size()) * task.seq);
    knows_right = knows_right && !cells.right.empty();
    add_windows(task, cells, windows);
  }
  const EvalResult result = summary(windows, batches.bytes_per_token(), knows_right);
  if (!std::isfinite(result.loss)) fail(ErrorKind::numeric, "the loss of the evaluated text is {}: the model's weights or logits are not finite", result.loss);
  return result;
}

std::optional<EvalResult> evaluate(LanguageModel& model, const data::TokenStream& text, const EvalOptions& options,
                                   const std::function<bool()>& stop) {
  const EvalMode mode(model);
  const auto scores = [&](const data::Batch& batch, int64_t first_token) {
    const LabelledBatch tensors = to_tensors(batch);
    const ComputeScope scope(options.compute);
    const torch::Tensor logits = model.logits(model.forward(tensors.tokens, {.first_token = first_token}).hidden);
    return cell_scores(logits.reshape({-1, logits.size(-1)}), tensors.labels);
  };
  return evaluate_scores(model, text, options, scores, stop);
}

}  // namespace switchyard
