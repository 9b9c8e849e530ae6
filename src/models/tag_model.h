// The part of a model that the tokens of one tag (task, language, domain) use: TaskMoE's sub-network, arXiv:2110.03742
// section 3, as a model of its own.
#pragma once

#include "switchyard/language_model.h"

namespace switchyard {

// Each Mixture-of-Experts layer keeps the experts that its gate gives to `tag`, behind the gate `fixed`, or the one expert that
// it merges for it; all else is the same. Hidden states are those of `model` bit for bit, merged experts up to the rounding of
// the merge, as long as `model` drops nothing: the result knows no capacity, no auxiliary losses and no tags.
// Throws Error{unsupported} when a gate does not go by tags alone, or layers would keep different numbers of experts.
[[nodiscard]] std::shared_ptr<LanguageModel> model_of_tag(LanguageModel& model, int64_t tag);

}  // namespace switchyard
