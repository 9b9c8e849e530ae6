// Blocks, capacity and losses that do not go together are known by the first call at the latest. A specification makes that
// call itself, on a few made-up tokens, so that they are refused when it is read.
#pragma once

#include "switchyard/gate.h"
#include "switchyard/model_spec.h"

namespace switchyard {

// Routes, plans, joins, forms every auxiliary loss and updates `gate`, which is not to be used afterwards. Throws Error{config} that
// names the place of the gate and what was said against it. What only the data can have (a tag, a table that a checkpoint
// fills) is left to the first call.
void rehearse_gate(const ModelSpec& spec, int64_t layer, Gate& gate);

}  // namespace switchyard
