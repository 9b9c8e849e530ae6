// The feed-forward experts of a layer on packed weights, from tokens to tokens:
//
//   y[t, :] = sum over the rows r of token t of  weights[row_weight_index[r]] * E_e(r)(x[t, :])
//   gated:  E(x) = W_out (phi(W_gate x) * W_up x)        plain:  E(x) = W_out phi(W_in x)
//
// Rows are gathered on their way into the form of the multiplier, the activation is applied where the product of gate and
// up leaves it, and results are added to y as they come. For few rows every weight is read once. Weights are used as they
// are stored: float32 and bfloat16 multiply float32 activations (AMX: bfloat16 multiplies activations rounded to bfloat16, which
// tiles sum in float32); integers multiply activations that are quantised to int8 per row and group of the weights, with exact
// sums inside a group.
//
// Every element is a sum whose order depends on nothing but the sizes, and tokens sum their experts in ascending order: the
// result is bit-identical for any number of threads and for any split of a batch, within one ISA.
#pragma once

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/packed/weights.h"

namespace switchyard::kernels::packed {

struct ExpertFfn {
  const PackedWeights* in = nullptr;   // [E, f or 2f, d]; gated: in an order of gate and up
  const PackedWeights* out = nullptr;  // [E, d_out, f]
  Activation phi = Activation::silu;
  bool gated = true;

  // Rows sorted by expert, as kernels/routing.h makes them.
  const int64_t* offsets = nullptr;           // [E + 1]
  const int64_t* row_token = nullptr;         // [N]; null: row r is token r
  const int64_t* row_weight_index = nullptr;  // [N]
  const float* weights = nullptr;             // null: all 1

  const float* x = nullptr;  // [tokens, d]
  float* y = nullptr;        // [tokens, d_out], overwritten
  int64_t tokens = 0;
};

// Runs on the OpenMP threads of the caller with the kernels of selected_isa(). A repeated call allocates nothing.
void expert_ffn(const ExpertFfn& f);

}  // namespace switchyard::kernels::packed
