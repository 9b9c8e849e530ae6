// The task of models that see both sides of a token: fill in what was masked.
#pragma once

#include "data/batches.h"
#include "switchyard/random.h"

namespace switchyard::data {

inline constexpr double kMaskFraction = 0.15;  // of the tokens, as in arXiv:1810.04805

// Replaces each token with probability kMaskFraction by `mask_id`; the labels become the tokens that were there, and
// kIgnoredLabel everywhere else. Padding and tokens that the batch does not score stay as they are. Every batch with a token
// to score gets at least one. A pure function of the batch and the stream.
[[nodiscard]] Batch mask_tokens(Batch batch, int32_t mask_id, const RandomStream& stream);

}  // namespace switchyard::data
