// Grouped matrix product: one product per expert over rows that are sorted by expert. With experts = 1 it is the plain
// product of every dense linear layer.
//
//   form   result                          A            B            C
//   nt     C[r, :] = A[r, :] * B[e]^T      [rows, k]    [E, n, k]    [rows, n]    forward of a linear layer
//   nn     C[r, :] = A[r, :] * B[e]        [rows, k]    [E, k, n]    [rows, n]    gradient of its input
//   tn     C[e]    = A_e^T * B_e           [rows, m]    [rows, n]    [E, m, n]    gradient of its weight
//
// r runs over the rows of expert e, offsets[e] <= r < offsets[e + 1]; A_e and B_e are those rows. An expert may have no
// rows: then nt and nn write nothing for it and tn writes zeros (or adds nothing).
//
// Memory is float32 and contiguous. With Compute::bfloat16 the operands are rounded to bfloat16 (nearest even) on their
// way into the multiplier; products are exact and sums are float32. C is not rounded.
//
// Each element of C is one chain of additions in ascending k, by one thread. Hence, for a given variant, the result is
// bit-identical for any number of threads, and a row of nt or nn does not depend on the other rows of the call.
#pragma once

#include <cstdint>

namespace switchyard::kernels {

enum class GemmForm { nt, nn, tn };
enum class GemmCompute { float32, bfloat16 };

struct GroupedGemm {
  GemmForm form = GemmForm::nt;
  GemmCompute compute = GemmCompute::float32;
  bool accumulate = false;           // C += ... instead of C = ...
  const float* a = nullptr;
  const float* b = nullptr;
  float* c = nullptr;
  const int64_t* offsets = nullptr;  // [experts + 1], not decreasing
  int64_t experts = 0;
  int64_t m = 0;                     // tn only; nt and nn take their rows from offsets
  int64_t n = 0;
  int64_t k = 0;                     // nt and nn only; tn contracts over rows
};

// Runs on the OpenMP threads of the caller with the variant of selected_isa(), and throws what that throws.
// Scratch memory belongs to the calling thread and only grows: a repeated call allocates nothing.
void grouped_gemm(const GroupedGemm& g);

}  // namespace switchyard::kernels
