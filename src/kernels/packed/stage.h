// One product of a packed computation: rows of several experts, in a kernel's form, with strips of their weights. The pieces of
// work that threads take from a counter, and how a piece is done.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/packed/rows.h"
#include "kernels/packed/tile.h"
#include "kernels/packed/weights.h"

namespace switchyard::kernels::packed {

// Rows [row0, row1) of a call, all of one expert.
struct Unit {
  int64_t expert, row0, row1;
};

// A unit's product with strips [strip0, strip1).
struct Piece {
  int64_t unit, strip0, strip1;
};

// Converted rows: where they lie in a block of memory, and how one is written.
class RowStore {
 public:
  RowStore() = default;
  // For rows of `k` floats as the kernel of `w` wants them.
  RowStore(const TileKernel& kernel, const PackedWeights& w);
  [[nodiscard]] int64_t bytes(int64_t rows) const;
  void place(char* memory, int64_t rows);  // memory: bytes(rows), 64-byte aligned
  void write(const RowKernels& kernels, int64_t row, const float* x) const;
  void copy(int64_t row, const RowStore& from, int64_t from_row) const;  // a row of a store of the same form
  [[nodiscard]] RowBlock from(int64_t row) const;
  // float32 and bfloat16 rows may be written in place, whole strips of 16 at a time: there is room for them.
  [[nodiscard]] RowForm form() const { return form_; }
  [[nodiscard]] char* data(int64_t row) const { return data_ + row * stride_; }
  [[nodiscard]] int64_t stride() const { return stride_; }  // bytes from a row to the next
  void clear_behind(int64_t row, int64_t written) const;    // zeros for the steps that pad a row

 private:
  RowForm form_ = RowForm::float32;
  int64_t k_ = 0, steps_ = 0, group_ = 0, groups_ = 0, stride_ = 0;
  int offset_ = 0;  // what the format adds to q
  char* data_ = nullptr;
  float* scales_ = nullptr;
  int32_t* offsets_ = nullptr;
};

// Pieces for a product in which every unit meets all strips: about `per_thread` of them for each thread, but none so small that handing
// it out costs more than doing it. `together` strips (an even number where gate and up alternate) stay in one piece.
void cut_units(const std::vector<Unit>& units, const PackedWeights& w, int threads, std::vector<Piece>& pieces);

// Pieces of strips alone, each of them for all units: for sums over experts, which one thread makes in a fixed order.
void cut_strips(const std::vector<Unit>& units, const PackedWeights& w, int threads, std::vector<Piece>& pieces);

// Room for the product of a piece on its way to `done`, in floats.
[[nodiscard]] int64_t piece_floats(const TileKernel& kernel);

// Into how many rows at a time a unit's `rows` are cut.
[[nodiscard]] int64_t rows_at_a_time(const TileKernel& kernel, int64_t rows);

// Multiplies rows [unit.row0, unit.row1) with strips [strip0, strip1) of the unit's expert and hands the results over:
// done(row, rows, strip, strips, c, ldc) with c [rows, 16 * strips]. first_row: where row 0 of the store lies in the call.
template <class Done>
void multiply_piece(const TileKernel& kernel, const PackedWeights& w, const RowStore& store, int64_t first_row, const Unit& unit, int64_t strip0,
                    int64_t strip1, float* c, Done done) {
  constexpr int64_t kTileLines = 16;  // AMX multiplies so many at once
  const int64_t lines = w.scales_at() / kLineBytes, group_lines = is_integer(w.format()) ? w.group() / steps_of_line(w.format()) : 0;
  const int64_t least = is_integer(w.format()) ? group_lines : kTileLines, block = rows_at_a_time(kernel, unit.row1 - unit.row0);
  for (int64_t row = unit.row0; row < unit.row1; row += block) {
    const int64_t rows = std::min(unit.row1 - row, block);
    const int64_t fitting = kernel.block_results / (kStrip * rows) / 2 * 2, together = fitting > 2 ? fitting : 2;
    const int64_t wanted = rows > 16 && lines > kernel.block_lines ? kernel.block_lines : lines;
    const int64_t chunk = wanted == lines ? lines : std::max(wanted / least, int64_t{1}) * least;
    for (int64_t s = strip0; s < strip1; s += together) {
      const int64_t strips = strip1 - s < together ? strip1 - s : together;
      TileCall call{.rows = store.from(row - first_row), .num_rows = rows, .strips = w.strip(unit.expert, s), .strip_bytes = w.strip_bytes(),
                    .num_strips = strips, .scales_at = w.scales_at(), .group_lines = group_lines, .c = c, .ldc = kStrip * strips};
      for (int64_t line = 0; line < lines; line += chunk) {
        call.line0 = line;
        call.line1 = line + chunk < lines ? line + chunk : lines;
        call.add = line > 0;
        kernel.multiply(call);
      }
      done(row, rows, s, strips, c, kStrip * strips);
    }
  }
}

}  // namespace switchyard::kernels::packed
