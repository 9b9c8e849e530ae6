// How well a model predicts a text: loss, perplexity with its standard error, bits per byte, accuracy.
//
// The loss is the mean over the scored tokens, in nats. Tokens of one window share their context, so the standard error
// takes windows as the independent draws (ratio estimator over W windows with n_w tokens of summed loss l_w each):
//
//   se(loss) = sqrt( W / (W - 1) * sum_w (l_w - loss * n_w)^2 ) / sum_w n_w        se(perplexity) = perplexity * se(loss)
#pragma once

#include "core/ops.h"
#include "data/batches.h"
#include "data/token_file.h"
#include "switchyard/language_model.h"

#include <functional>
#include <limits>
#include <optional>
#include <vector>

namespace switchyard {

struct EvalOptions {
  int64_t seq_len = 256;
  int64_t batch_size = 16;       // windows per forward pass; no effect on the result beyond rounding
  int64_t max_tokens = 0;        // 0 = all; otherwise about so many, in whole windows spread evenly over the text
  bool cross_documents = false;  // attention looks over document borders
  ComputeType compute = ComputeType::float32;
};

struct EvalResult {
  double loss = 0, loss_se = 0;              // nats per scored token
  double perplexity = 0, perplexity_se = 0;  // exp(loss)
  double bits_per_byte = 0;                  // over the bytes of the scored text; end tokens are paid for and have no bytes
  double accuracy = std::numeric_limits<double>::quiet_NaN();  // share of scored tokens that were the most probable one; NaN = not known
  int64_t tokens = 0, windows = 0;
};

// What is known of the cells of a batch, [batch * seq] each.
struct CellScores {
  std::vector<double> losses;  // nats, 0 where nothing is scored
  std::vector<bool> right;     // the most probable token was the one; empty = not known
};
// `first_token` counts the cells before the batch.
using ScoresOfBatch = std::function<CellScores(const data::Batch& batch, int64_t first_token)>;

// logits [batch * seq, V], labels [batch * seq] with data::kIgnoredLabel where nothing is scored.
[[nodiscard]] CellScores cell_scores(const torch::Tensor& logits, const torch::Tensor& labels);

// The same measurement of anything that predicts tokens; batches come in the order of the text.
[[nodiscard]] std::optional<EvalResult> evaluate_scores(const LanguageModel& model, const data::TokenStream& text, const EvalOptions& options,
                                                        const ScoresOfBatch& scores, const std::function<bool()>& stop = {});

// Runs in evaluation mode without gradients and leaves the model in the mode it was in. `stop` is asked between batches;
// when it says true, the result is empty. Throws Error{numeric} for a loss that is not finite.
[[nodiscard]] std::optional<EvalResult> evaluate(LanguageModel& model, const data::TokenStream& text, const EvalOptions& options,
                                                 const std::function<bool()>& stop = {});

}  // namespace switchyard
