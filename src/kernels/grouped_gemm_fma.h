// Grouped product with vector FMA: packing and register tile, written once for AVX2 and AVX-512. Include it in one file
// per instruction set; everything is in an unnamed namespace because each of those files is compiled with other flags.
//
// A vector policy V provides: Type, kWidth, kRows (tile height), kChunk (BlockKernel::k_chunk), zero, load, load_part (first n
// lanes, rest zero), store, store_part, store_first<n> (n = kRows % kWidth), broadcast, fma, round_bf16, transpose (kWidth vectors in place).
// The tile of C is V::kRows x 2 vectors, all of it in registers. A packed panel holds, for each contraction step, its
// kRows rows or 2 * kWidth columns side by side, as float32 (rounded to bfloat16 values if so asked).
#pragma once

#include <cstdint>

#include "kernels/grouped_gemm_block.h"

namespace switchyard::kernels::gemm {
namespace {

template <class V, bool kRound>
typename V::Type rounded(typename V::Type x) {
  if constexpr (kRound)
    return V::round_bf16(x);
  else
    return x;
}

// A step of kRoom <= kWidth lanes of a panel. Below, `columns` of them exist in the source, the others become zero; steps are kPanel floats apart.
template <class V, bool kRound, int kRoom>
void store_lanes(float* out, typename V::Type x) {
  if constexpr (kRoom == V::kWidth)
    V::store(out, rounded<V, kRound>(x));
  else
    V::template store_first<kRoom>(out, rounded<V, kRound>(x));
}

// Floats of rows that end before the hardware has found out that they are read from end to end. Fetching longer ones ahead gains nothing.
constexpr int64_t kShortRow = 512;

// One square of kRoom rows by kWidth steps; kWhole: all of it exists, else `columns` by `depth` of it.
template <class V, bool kRound, int kPanel, int kRoom, bool kWhole>
[[gnu::always_inline]] inline void pack_square(const float* x, int64_t ld, int64_t depth, int64_t columns, float* out) {
  constexpr int kW = V::kWidth;
  typename V::Type square[kW];
#pragma GCC unroll 16
  for (int i = 0; i < kW; ++i)
    if (i >= (kWhole ? kRoom : columns))
      square[i] = V::zero();
    else
      square[i] = kWhole || depth == kW ? V::load(x + i * ld) : V::load_part(x + i * ld, depth);
  V::transpose(square);
#pragma GCC unroll 16
  for (int i = 0; i < kW; ++i)
    if (kWhole || i < depth) store_lanes<V, kRound, kRoom>(out + i * kPanel, square[i]);
}

// Source rows run along k: transpose squares.
template <class V, bool kRound, int kPanel, int kRoom>
void pack_across(const float* x, int64_t ld, int64_t k, int64_t columns, float* out) {
  constexpr int kW = V::kWidth;
  for (int64_t p = 0; p < k; p += kW, x += kW, out += kW * kPanel) {
    if (ld <= kShortRow)
      for (int i = 0; i < kW; ++i) __builtin_prefetch(x + (i + kW) * ld);
    if (k - p >= kW && columns == kRoom)
      pack_square<V, kRound, kPanel, kRoom, true>(x, ld, kW, kRoom, out);
    else
      pack_square<V, kRound, kPanel, kRoom, false>(x, ld, k - p < kW ? k - p : kW, columns, out);
  }
}

// Steps of all panels that are packed before the next ones, where source rows run along the panels.
constexpr int64_t kStepsAtATime = 8;

// Source rows run along the panel: copy. Only a piece of each row is read, too short for the hardware's prefetching.
template <class V, bool kRound, int kPanel, int kRoom>
void pack_along(const float* x, int64_t ld, int64_t k, int64_t columns, float* out) {
  for (int64_t p = 0; p < k; ++p) {
    const float* from = x + p * ld;
    __builtin_prefetch(from + kStepsAtATime * ld);
    const auto x_p = columns == V::kWidth ? V::load(from) : V::load_part(from, columns);
    store_lanes<V, kRound, kRoom>(out + p * kPanel, x_p);
  }
}

// Lanes [o, o + kRoom) of a panel, of which `left` exist.
template <class V, bool kRound, int kPanel, int kRoom>
void pack_lanes(const Operand& x, int64_t o, int64_t left, int64_t k0, int64_t k, float* out) {
  const int64_t columns = left < 0 ? 0 : left < kRoom ? left : kRoom;
  if (x.along_k)
    pack_across<V, kRound, kPanel, kRoom>(x.data + o * x.ld + k0, x.ld, k, columns, out);
  else
    pack_along<V, kRound, kPanel, kRoom>(x.data + k0 * x.ld + o, x.ld, k, columns, out);
}

// Steps [k0, k0 + k) of all panels of a piece whose packed panels are `depth` steps long.
template <class V, bool kRound, int kPanel>
void pack_steps(const Operand& x, const Piece& s, int64_t k0, int64_t k, int64_t depth, float* out) {
  for (int64_t panel = s.o0; panel < s.o1; panel += kPanel, out += kPanel * depth) {
    const int64_t filled = s.o1 - panel < kPanel ? s.o1 - panel : kPanel;
    for (int64_t first = 0; first + V::kWidth <= kPanel; first += V::kWidth)
      pack_lanes<V, kRound, kPanel, V::kWidth>(x, panel + first, filled - first, k0, k, out + first);
    constexpr int kRest = kPanel % V::kWidth;
    if constexpr (kRest > 0) pack_lanes<V, kRound, kPanel, kRest>(x, panel + kPanel - kRest, filled - (kPanel - kRest), k0, k, out + kPanel - kRest);
  }
}

// Rows of the source are read from end to end: whole panels where they run along k, else a few steps of all panels at a
// time.
template <class V, bool kRound, int kPanel>
void pack(const Operand& x, const Piece& s, void* out) noexcept {
  auto* to = static_cast<float*>(out);
  const int64_t depth = s.k1 - s.k0;
  if (x.along_k) return pack_steps<V, kRound, kPanel>(x, s, s.k0, depth, depth, to);
  for (int64_t p = 0; p < depth; p += kStepsAtATime)
    pack_steps<V, kRound, kPanel>(x, s, s.k0 + p, depth - p < kStepsAtATime ? depth - p : kStepsAtATime, depth, to + p * kPanel);
}

// The rows of A that a tile multiplies, one contraction step after the other: of a packed panel, or where they lie.
template <class V, int kTileRows>
struct PackedRows {
  const float* a;
  PackedRows(const PackedProduct& p, int64_t row) : a(static_cast<const float*>(p.a) + row * p.k) {}
  const float* operator[](int r) const { return a + r; }
  void next() { a += V::kRows; }
};
template <class V, int kTileRows>
struct RowsInPlace {
  static constexpr int kPerBase = 3, kBases = (kTileRows + kPerBase - 1) / kPerBase;  // an address is base + {0, 1, 2} * ld
  const float* base[kBases];
  int64_t ld;
  RowsInPlace(const PackedProduct& p, int64_t row) : ld(p.lda) {
#pragma GCC unroll 16
    for (int i = 0; i < kBases; ++i) base[i] = static_cast<const float*>(p.a) + (row + i * kPerBase) * ld;
  }
  const float* operator[](int r) const { return base[r / kPerBase] + r % kPerBase * ld; }
  void next() {
#pragma GCC unroll 16
    for (int i = 0; i < kBases; ++i) ++base[i];
  }
};

// Where a tile lies.
struct Place {
  int64_t row;     // of A and C
  const float* b;  // panel
  float* c;
  int64_t tail;    // lanes of the last vector that exist in C
};

constexpr int64_t kStepsAhead = 8;  // a panel of B comes from the L2 cache

// C[kTileRows, (kVectors - 1) * kWidth + tail] (+)= a * b
template <class V, template <class, int> class Rows, int kTileRows, int kVectors>
void tile(const PackedProduct& product, const Place& place) {
  constexpr int kW = V::kWidth, kBStep = 2 * kW;
  const auto [row, b0, c0, tail] = place;  // locals: stores to C might be to what a reference names
  const int64_t ldc = product.ldc, k = product.k;
  typename V::Type sum[kTileRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const float* c = c0 + r * ldc + v * kW;
      sum[r][v] = !product.add ? V::zero() : v + 1 < kVectors || tail == kW ? V::load(c) : V::load_part(c, tail);
    }
  // The next tile of C, which no hardware fetches: its rows are far apart.
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) __builtin_prefetch(c0 + r * ldc + (kVectors + v) * kW, 1);
  Rows<V, kTileRows> a(product, row);
  const float* b = b0;
  for (int64_t p = 0; p < k; ++p, a.next(), b += kBStep) {
    __builtin_prefetch(b + kStepsAhead * kBStep);
    __builtin_prefetch(b + kStepsAhead * kBStep + kW);
    typename V::Type right[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) right[v] = V::load(b + v * kW);
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
      const auto left = V::broadcast(a[r]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[r][v] = V::fma(left, right[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      float* c = c0 + r * ldc + v * kW;
      if (v + 1 < kVectors || tail == kW)
        V::store(c, sum[r][v]);
      else
        V::store_part(c, tail, sum[r][v]);
    }
}

// Tiles shorter than kRows: the same chain of operations per element, chosen at run time.
template <class V, template <class, int> class Rows, int kVectors, int kTileRows = V::kRows>
void tile_of_height(int64_t rows, const PackedProduct& p, const Place& place) {
  if constexpr (kTileRows == 1) {
    tile<V, Rows, 1, kVectors>(p, place);
  } else {
    if (rows == kTileRows)
      tile<V, Rows, kTileRows, kVectors>(p, place);
    else
      tile_of_height<V, Rows, kVectors, kTileRows - 1>(rows, p, place);
  }
}

// Groups of columns, so that C is written in runs longer than a panel while the B of a group stays in the L2 cache.
template <class V, template <class, int> class Rows>
void multiply_rows(const PackedProduct& p) {
  constexpr int64_t kCols = 2 * V::kWidth, kGroup = 256;
  for (int64_t group = 0; group < p.cols; group += kGroup) {
    const int64_t end = p.cols - group < kGroup ? p.cols : group + kGroup;
    for (int64_t row = 0; row < p.rows; row += V::kRows)
      for (int64_t col = group; col < end; col += kCols) {
        const auto* b = static_cast<const char*>(p.b) + col / kCols * p.b_panel_bytes;
        const int64_t height = p.rows - row < V::kRows ? p.rows - row : V::kRows;
        const int64_t width = p.cols - col < kCols ? p.cols - col : kCols;
        const bool two = width > V::kWidth;
        const Place place{row, reinterpret_cast<const float*>(b), p.c + row * p.ldc + col, two ? width - V::kWidth : width};
        if (two)
          tile_of_height<V, Rows, 2>(height, p, place);
        else
          tile_of_height<V, Rows, 1>(height, p, place);
      }
  }
}

template <class V>
void multiply(const PackedProduct& p) noexcept {
  if (p.lda > 0)
    multiply_rows<V, RowsInPlace>(p);
  else
    multiply_rows<V, PackedRows>(p);
}

template <class V, bool kRound>
constexpr BlockKernel fma_kernel() {
  constexpr int64_t kBlockRows = 280 / V::kRows * V::kRows;
  return {.mr = V::kRows, .nr = 2 * V::kWidth, .k_step = 1, .element_bytes = 4, .k_chunk = V::kChunk,
          .block_rows = kBlockRows, .unshared_rows = 2 * kBlockRows, .rows_in_place = !kRound,
          .pack_a = pack<V, kRound, V::kRows>, .pack_b = pack<V, kRound, 2 * V::kWidth>, .multiply = multiply<V>};
}

}  // namespace
}  // namespace switchyard::kernels::gemm
