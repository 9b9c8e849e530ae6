// Rows on their way into the tiles of packed weights and out of them, by instruction set: conversion, activation, weighted
// sums. Each works on the calling thread.
#pragma once

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/isa.h"
#include "kernels/packed/tile.h"

namespace switchyard::kernels::packed {

// A row of k floats as float32 or bfloat16 (nearest even), zeros from k to steps.
using ConvertRow = void (*)(const float* x, int64_t k, int64_t steps, char* out) noexcept;
// A row of k floats as int8, zeros from k to steps: for every group q = x / scale to the nearest whole number with
// scale = max |x| / 127, and offset = -weight_offset * sum q. A group below 1e-36 counts as zeros. NaN and infinity make the row NaN.
using QuantiseRow = void (*)(const float* x, int64_t k, int64_t steps, int64_t group, int weight_offset, char* out, float* scales,
                             int32_t* offsets) noexcept;
// The int8 of a row, in the last `steps` of 2 * steps bytes, as the 16-bit pairs of RowForm::int16_pairs in all of them.
using WidenRow = void (*)(int64_t steps, char* out) noexcept;

// h[r, 16 p + j] = phi(c[r, 32 p + j]) * c[r, 32 p + 16 + j] for strips that alternate gate and up (RowOrder); plain: phi(c[r, i]).
// width: columns of h, a multiple of 16.
using ActivateRows = void (*)(Activation kind, bool gated, int64_t rows, int64_t width, const float* c, int64_t ldc, float* h,
                              int64_t ldh) noexcept;

// The same rounded to bfloat16 (nearest even), rows of h `stride` bytes apart.
using ActivateRowsToBfloat16 = void (*)(Activation kind, bool gated, int64_t rows, int64_t width, const float* c, int64_t ldc, char* h,
                                        int64_t stride) noexcept;

// y[index[r], 0..width) += weights[weight_index[r]] * c[r, 0..width); without weights all are 1.
using AddRows = void (*)(int64_t rows, int64_t width, const float* c, int64_t ldc, const int64_t* index, const int64_t* weight_index,
                         const float* weights, float* y, int64_t ldy) noexcept;

struct RowKernels {
  ConvertRow to_float32, to_bfloat16;
  QuantiseRow quantise;
  WidenRow widen;
  ActivateRows activate;
  ActivateRowsToBfloat16 activate_to_bfloat16;
  AddRows add;
};
[[nodiscard]] const RowKernels& row_kernels();  // of selected_isa()

}  // namespace switchyard::kernels::packed
