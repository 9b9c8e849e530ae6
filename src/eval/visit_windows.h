// A text through a model, window by window, for whoever watches from inside (observers of expert banks).
#pragma once

#include "core/ops.h"
#include "data/batches.h"
#include "switchyard/language_model.h"

#include <functional>

namespace switchyard {

struct WindowOptions {
  int64_t seq_len = 256;
  int64_t max_tokens = 20000;  // about so many, in whole windows spread over the text
  bool cross_documents = false;
  ComputeType compute = ComputeType::float32;
};

// In evaluation mode, without gradients. `before` and `after` (may be empty) are called around each forward pass.
void visit_windows(LanguageModel& model, const data::TokenStream& text, const WindowOptions& options, const std::function<void(const data::Batch&)>& before,
                   const std::function<void(const data::Batch&)>& after = {});

// The place of each token of a batch among those that count, -1 for padding, [T] int64.
[[nodiscard]] torch::Tensor places_of(const data::Batch& batch);

}  // namespace switchyard
