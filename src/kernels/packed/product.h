// The product of rows with packed weights, one matrix per expert:  c[r, :] = W_e a[r, :].  With experts = 1 it is a dense linear
// layer. Arithmetic and order of sums as in expert_ffn.h.
#pragma once

#include <cstdint>

#include "kernels/packed/weights.h"

namespace switchyard::kernels::packed {

struct PackedProduct {
  const PackedWeights* w = nullptr;  // in any order; columns of c are the rows as stored
  const int64_t* offsets = nullptr;  // [E + 1]: rows of expert e are offsets[e] .. offsets[e + 1] - 1
  const float* a = nullptr;          // [rows, k]
  float* c = nullptr;                // [rows, n]
};

// Runs on the OpenMP threads of the caller with the kernels of selected_isa(). A repeated call allocates nothing.
void packed_product(const PackedProduct& p);

}  // namespace switchyard::kernels::packed
