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

// What the model is asked: the next token of every token as the batch has it, or, of a model that is not causal, the tokens
// that the stream masks (data/mask.h). The mask is the last row of the vocabulary.
[[nodiscard]] data::Batch task_of(const LanguageModel& model, data::Batch batch, const RandomStream& stream);

}  // namespace switchyard
