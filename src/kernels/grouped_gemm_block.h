// What grouped_gemm.cpp (which expert, which rows, which thread) asks of an instruction set: pack pieces of the operands,
// multiply packed pieces. One BlockKernel per instruction set and compute type.
#pragma once

#include <cstdint>

namespace switchyard::kernels::gemm {

// An operand seen along the contraction: element (o, p), with o a row of A or a column of B and p the contraction index,
// is data[o * ld + p] if along_k, else data[p * ld + o].
struct Operand {
  const float* data;
  int64_t ld;
  bool along_k;
};

// The rectangle [o0, o1) x [k0, k1) of an operand.
struct Piece {
  int64_t o0, o1, k0, k1;
};

// C[0..rows, 0..cols] (+)= A * packed B over k contraction steps.
struct PackedProduct {
  const void* a;              // panels of BlockKernel::mr rows, one after the other; with lda > 0 rows of float32 in place
  int64_t lda;                // floats between rows in place, 0: packed
  const void* b;              // panels of BlockKernel::nr columns, b_panel_bytes apart
  int64_t b_panel_bytes;
  int64_t rows, cols, k;
  float* c;
  int64_t ldc;
  bool add;                   // start from C instead of zero
};

// Packed size of a panel of width w over k steps: w * round_up(k, k_step) * element_bytes. Panels that the operand does not
// fill are padded with zeros.
struct BlockKernel {
  int64_t mr, nr;             // panel widths of A and B
  int64_t k_step;             // k is padded with zeros to a multiple of this
  int64_t element_bytes;      // of a packed element
  int64_t k_chunk;            // contraction steps per visit to C; a multiple of k_step
  int64_t block_rows;         // largest height of a block of C; a multiple of mr
  int64_t unshared_rows;      // up to this many rows of C each block packs the B it needs: cheaper than sharing it
  bool rows_in_place;         // multiply takes rows of A that run along k without packing
  void (*pack_a)(const Operand& a, const Piece& piece, void* out) noexcept;
  void (*pack_b)(const Operand& b, const Piece& piece, void* out) noexcept;
  void (*multiply)(const PackedProduct& p) noexcept;
};

extern const BlockKernel kScalarF32, kScalarBf16;
extern const BlockKernel kAvx2F32, kAvx2Bf16;
extern const BlockKernel kAvx512F32, kAvx512Bf16;
extern const BlockKernel kAmxBf16;

}  // namespace switchyard::kernels::gemm
