// What of a module may be packed: its large matrices in bfloat16, int8 or int4 for a model that only computes forward
// (LanguageModel::pack_weights).
#pragma once

#include <torch/types.h>

namespace switchyard {

// How the rows of a joint matrix are two matrices that the kernels read side by side.
enum class PackedRows { as_stored, gate_then_up, gate_up_alternating };

// A parameter [n, k] or [E, n, k] that is only ever multiplied as a whole, by a linear layer or by the experts that own it.
struct Packable {
  torch::Tensor parameter;
  PackedRows rows = PackedRows::as_stored;
};

}  // namespace switchyard
