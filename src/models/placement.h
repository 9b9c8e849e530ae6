// Which layers of a model without a pattern have experts.
#pragma once

#include "switchyard/model_spec.h"

namespace switchyard {

// Has `layer` of 0 .. num_layers - 1 experts? For placements that check_placement accepts.
[[nodiscard]] bool placed(const MoESpec& moe, int64_t layer, int64_t num_layers);

// Throws Error{config} for a rule that is unknown, a number that it does not take, and two rules at once.
void check_placement(const MoESpec& moe, int64_t num_layers);

}  // namespace switchyard
