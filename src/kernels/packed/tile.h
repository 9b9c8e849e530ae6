// What the drivers of packed weights (product.cpp, expert_ffn.cpp) ask of an instruction set: rows in its form, products of
// rows with strips.
#pragma once

#include <cstdint>

#include "kernels/isa.h"
#include "kernels/packed/format.h"

namespace switchyard::kernels::packed {

// How a kernel wants activations: [rows, steps] row by row, rows `stride` bytes apart. A stride that is no multiple of 4 KiB
// keeps the rows of a tile out of each other's cache sets. int16_pairs: quantised to int8 as well, but stored as 16-bit numbers, of
// every four steps first 0 and 2, then 1 and 3.
enum class RowForm { float32, bfloat16, int8, int16_pairs };
[[nodiscard]] constexpr bool is_quantised(RowForm f) noexcept { return f == RowForm::int8 || f == RowForm::int16_pairs; }

struct RowBlock {
  const char* data = nullptr;
  int64_t stride = 0;               // bytes
  const float* scales = nullptr;    // quantised: [rows, groups], x = scale * q
  const int32_t* offsets = nullptr; // quantised: [rows, groups], minus the stored offset of a weight times the sum of the group's q
  int64_t groups = 0;
};

// c[r, 16 s + j] (+)= sum_p row[r][p] * strip s [p][j], p over lines [line0, line1) of the strips. For integer formats the lines
// are whole groups, for bfloat16 a multiple of 16. Sums run in ascending p in an order that nothing else decides: the same bits
// for any number of rows and strips.
struct TileCall {
  RowBlock rows;
  int64_t num_rows = 0;
  const char* strips = nullptr;
  int64_t strip_bytes = 0, num_strips = 0, scales_at = 0;
  int64_t line0 = 0, line1 = 0;
  int64_t group_lines = 0;          // integer formats
  float* c = nullptr;
  int64_t ldc = 0;
  bool add = false;
};

struct TileKernel {
  RowForm form = RowForm::float32;
  void (*multiply)(const TileCall& call) noexcept = nullptr;
  // What of a call stays in the L2 cache: rows (whole panels), the lines of the contraction if rows are longer, floats of results.
  int64_t block_rows = 126, block_lines = 4096, block_results = 16 << 10;
  bool even_blocks = false;  // blocks of about block_rows, where a small rest would read all weights for itself
};

// The kernel of the best instruction set at or below `isa`.
[[nodiscard]] TileKernel tile_kernel(Isa isa, WeightFormat format);

extern const TileKernel kScalarTiles[4], kAvx2Tiles[4], kAvx512Tiles[4], kVnniTiles[4], kAmxTiles[4];  // by WeightFormat; multiply null: none

}  // namespace switchyard::kernels::packed
