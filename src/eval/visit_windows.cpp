#include "eval/visit_windows.h"

#include "eval/batch_tensors.h"
#include "models/eval_mode.h"

#include <c10/core/GradMode.h>

namespace switchyard {

void visit_windows(LanguageModel& model, const data::TokenStream& text, const WindowOptions& options, const std::function<void(const data::Batch&)>& before,
                   const std::function<void(const data::Batch&)>& after) {
  const EvalMode mode(model);
  const c10::NoGradGuard no_grad;
  const ComputeScope scope(options.compute);
  const data::EvalBatches batches(text, {.seq_len = options.seq_len,
                                         .batch_size = 8,
                                         .cross_documents = options.cross_documents,
                                         .max_windows = (options.max_tokens + options.seq_len - 1) / options.seq_len});
  for (int64_t i = 0; i < batches.size(); ++i) {
    const auto batch = batches.batch(i);
    if (before) before(batch);
    (void)model.forward(to_tensors(batch).tokens);
    if (after) after(batch);
  }
}

torch::Tensor places_of(const data::Batch& batch) {
  auto out = torch::empty({static_cast<int64_t>(batch.segments.size())}, torch::kInt64);
  int64_t next = 0;
  for (size_t t = 0; t < batch.segments.size(); ++t) out.data_ptr<int64_t>()[t] = batch.segments[t] < 0 ? -1 : next++;
  return out;
}

}  // namespace switchyard
