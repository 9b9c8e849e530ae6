#include "eval/batch_tensors.h"

#include "data/mask.h"

#include <ATen/Functions.h>

namespace switchyard {
namespace {

// A copy of the cells as a tensor of its own.
torch::Tensor cells(const std::vector<int32_t>& values, torch::IntArrayRef shape, torch::Dtype dtype) {
  auto view = at::from_blob(const_cast<int32_t*>(values.data()), shape, torch::kInt32);
  return dtype == torch::kInt32 ? view.clone() : view.to(dtype);
}

}  // namespace

LabelledBatch to_tensors(const data::Batch& batch) {
  const int64_t shape[] = {batch.batch, batch.seq};
  return {.tokens = {.input_ids = cells(batch.input_ids, shape, torch::kInt64),
                     .positions = cells(batch.positions, shape, torch::kInt64),
                     .segments = cells(batch.segments, shape, torch::kInt32),
                     .tags = batch.tags.empty() ? torch::Tensor() : cells(batch.tags, shape, torch::kInt64)},
          .labels = cells(batch.labels, {batch.batch * batch.seq}, torch::kInt64)};
}

data::Batch task_of(const LanguageModel& model, data::Batch batch, const RandomStream& stream) {
  if (model.spec().causal) return batch;
  return data::mask_tokens(std::move(batch), static_cast<int32_t>(model.spec().vocab_size - 1), stream);
}

}  // namespace switchyard
