// What several gates ask about the tokens of a call beside their hidden states.
#pragma once

#include "switchyard/routing.h"

namespace switchyard {

// For each token the place where its sequence begins among all tokens of the step [T] int64: names the sequence in random draws,
// whatever the micro-batches, ranks or caches. Without sequence_ids the call is one sequence.
[[nodiscard]] torch::Tensor sequence_places(const GateInput& input);

// Tags in 0 .. num_tags - 1 [T] int64; padding gets 0. Throws Error{usage} when there are none, Error{config} for one out of range.
[[nodiscard]] torch::Tensor checked_tags(const GateInput& input, int64_t num_tags, const char* gate, int64_t layer);

}  // namespace switchyard
