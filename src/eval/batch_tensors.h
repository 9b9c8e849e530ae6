// Batches of integers as tensors of the model.
#pragma once

#include "data/batches.h"
#include "switchyard/language_model.h"

namespace switchyard {

struct LabelledBatch {
  TokenBatch tokens;
  torch::Tensor labels;  // [B * S] int64, data::kIgnoredLabel where nothing is scored
};

[[nodiscard]] LabelledBatch to_tensors(const data::Batch& batch);

}  // namespace switchyard
