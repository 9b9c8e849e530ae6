// Grouped product with vector FMA: packing and register tile, written once for AVX2 and AVX-512. Include it in one file
// per instruction set; everything is in an unnamed namespace because each of those files is compiled with other flags.
//
// A vector policy V provides: Type, kWidth, kRows (tile height), kChunk (BlockKernel::k_chunk), zero, load, load_part (first n
// lanes, rest zero), store, store_part, broadcast, fma, round_bf16, transpose (kWidth vectors in place).
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

// What packing a vector's width of a panel needs: `columns` of `room` <= kWidth lanes exist in the source, the other lanes
// of the room become zero; steps are `step` floats apart in the panel.
struct Lanes {
  int64_t columns, room, step;
};

template <class V, bool kRound>
void store_lanes(float* out, const Lanes& lanes, typename V::Type x) {
  if (lanes.room == V::kWidth)
    V::store(out, rounded<V, kRound>(x));
  else
    V::store_part(out, lanes.room, rounded<V, kRound>(x));
}

// Floats of rows that end before the hardware has found out that they are read from end to end. Fetching longer ones ahead gains nothing.
constexpr int64_t kShortRow = 512;

// Source rows run along k: transpose squares of kWidth x kWidth.
template <class V, bool kRound>
void pack_across(const float* x, int64_t ld, int64_t k, const Lanes& lanes, float* out) {
  constexpr int kW = V::kWidth;
  for (int64_t p = 0; p < k; p += kW) {
    const int64_t depth = k - p < kW ? k - p : kW;
    typename V::Type square[kW];
    if (ld <= kShortRow)
      for (int i = 0; i < kW; ++i) __builtin_prefetch(x + (i + kW) * ld + p);
    for (int i = 0; i < kW; ++i)
      square[i] = i >= lanes.columns ? V::zero() : depth == kW ? V::load(x + i * ld + p) : V::load_part(x + i * ld + p, depth);
    V::transpose(square);
    for (int i = 0; i < depth; ++i) store_lanes<V, kRound>(out + (p + i) * lanes.step, lanes, square[i]);
  }
}

// Steps of all panels that are packed before the next ones, where source rows run along the panels.
constexpr int64_t kStepsAtATime = 8;

// Source rows run along the panel: copy. Only a piece of each row is read, too short for the hardware's prefetching.
template <class V, bool kRound>
void pack_along(const float* x, int64_t ld, int64_t k, const Lanes& lanes, float* out) {
  for (int64_t p = 0; p < k; ++p) {
    const float* from = x + p * ld;
    __builtin_prefetch(from + kStepsAtATime * ld);
    const auto x_p = lanes.columns == V::kWidth ? V::load(from) : V::load_part(from, lanes.columns);
    store_lanes<V, kRound>(out + p * lanes.step, lanes, x_p);
  }
}

// Steps [k0, k0 + k) of all panels of a piece whose packed panels are `depth` steps long.
template <class V, bool kRound, int kPanel>
void pack_steps(const Operand& x, const Piece& s, int64_t k0, int64_t k, int64_t depth, float* out) {
  for (int64_t panel = s.o0; panel < s.o1; panel += kPanel, out += kPanel * depth) {
    const int64_t filled = s.o1 - panel < kPanel ? s.o1 - panel : kPanel;
    for (int64_t first = 0; first < kPanel; first += V::kWidth) {
      const int64_t room = kPanel - first < V::kWidth ? kPanel - first : V::kWidth;
      const int64_t left = filled - first < 0 ? 0 : filled - first;
      const Lanes lanes{left < room ? left : room, room, kPanel};
      if (x.along_k)
        pack_across<V, kRound>(x.data + (panel + first) * x.ld + k0, x.ld, k, lanes, out + first);
      else
        pack_along<V, kRound>(x.data + k0 * x.ld + panel + first, x.ld, k, lanes, out + first);
    }
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

struct TileArguments {
  const float* a;
  const float* b;
  int64_t k;
  float* c;
  int64_t ldc;
  bool add;
  int64_t tail;  // lanes of the last vector that exist in C
};

constexpr int64_t kStepsAhead = 8;  // a panel of B comes from the L2 cache

// C[kTileRows, (kVectors - 1) * kWidth + tail] (+)= a * b
template <class V, int kTileRows, int kVectors>
void tile(const TileArguments& t) {
  constexpr int kW = V::kWidth;
  constexpr int kAStep = V::kRows, kBStep = 2 * kW;
  typename V::Type sum[kTileRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const float* c = t.c + r * t.ldc + v * kW;
      sum[r][v] = !t.add ? V::zero() : v + 1 < kVectors || t.tail == kW ? V::load(c) : V::load_part(c, t.tail);
    }
  // The next tile of C, which no hardware fetches: its rows are far apart.
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) __builtin_prefetch(t.c + r * t.ldc + (kVectors + v) * kW, 1);
  const float* a = t.a;
  const float* b = t.b;
  for (int64_t p = 0; p < t.k; ++p, a += kAStep, b += kBStep) {
    __builtin_prefetch(b + kStepsAhead * kBStep);
    __builtin_prefetch(b + kStepsAhead * kBStep + kW);
    typename V::Type right[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) right[v] = V::load(b + v * kW);
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
      const auto left = V::broadcast(a + r);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[r][v] = V::fma(left, right[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      float* c = t.c + r * t.ldc + v * kW;
      if (v + 1 < kVectors || t.tail == kW)
        V::store(c, sum[r][v]);
      else
        V::store_part(c, t.tail, sum[r][v]);
    }
}

// Tiles shorter than kRows: the same chain of operations per element, chosen at run time.
template <class V, int kVectors, int kTileRows = V::kRows>
void tile_of_height(int64_t rows, const TileArguments& t) {
  if constexpr (kTileRows == 1) {
    tile<V, 1, kVectors>(t);
  } else {
    if (rows == kTileRows)
      tile<V, kTileRows, kVectors>(t);
    else
      tile_of_height<V, kVectors, kTileRows - 1>(rows, t);
  }
}

// Groups of columns, so that C is written in runs longer than a panel while the B of a group stays in the L2 cache.
template <class V>
void multiply(const PackedProduct& p) noexcept {
  constexpr int64_t kCols = 2 * V::kWidth, kGroup = 256;
  for (int64_t group = 0; group < p.cols; group += kGroup) {
    const int64_t end = p.cols - group < kGroup ? p.cols : group + kGroup;
    for (int64_t row = 0; row < p.rows; row += V::kRows)
      for (int64_t col = group; col < end; col += kCols) {
        const auto* b = static_cast<const char*>(p.b) + col / kCols * p.b_panel_bytes;
        const int64_t height = p.rows - row < V::kRows ? p.rows - row : V::kRows;
        const int64_t width = p.cols - col < kCols ? p.cols - col : kCols;
        const bool two = width > V::kWidth;
        const TileArguments t{static_cast<const float*>(p.a) + row * p.k, reinterpret_cast<const float*>(b), p.k,
                              p.c + row * p.ldc + col, p.ldc, p.add, two ? width - V::kWidth : width};
        if (two)
          tile_of_height<V, 2>(height, t);
        else
          tile_of_height<V, 1>(height, t);
      }
  }
}

template <class V, bool kRound>
constexpr BlockKernel fma_kernel() {
  constexpr int64_t kBlockRows = 280 / V::kRows * V::kRows;
  return {.mr = V::kRows, .nr = 2 * V::kWidth, .k_step = 1, .element_bytes = 4, .k_chunk = V::kChunk,
          .block_rows = kBlockRows, .unshared_rows = 2 * kBlockRows,
          .pack_a = pack<V, kRound, V::kRows>, .pack_b = pack<V, kRound, 2 * V::kWidth>, .multiply = multiply<V>};
}

}  // namespace
}  // namespace switchyard::kernels::gemm
