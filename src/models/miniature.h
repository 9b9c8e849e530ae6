// A large model in small: every axis keeps its kind (mixers and their order, norms, positions, gates and selection rules, shared and
// dense networks, losses), and every size shrinks to what trains in seconds.
#pragma once

#include "switchyard/model_spec.h"

namespace switchyard {

// At most 32 wide, 64 positions, one round of the pattern (two where it is short), 8 experts. `vocab_size` rows of the embedding.
// Throws Error{config} for what cannot be made smaller.
[[nodiscard]] ModelSpec miniature(const ModelSpec& spec, int64_t vocab_size);

}  // namespace switchyard
