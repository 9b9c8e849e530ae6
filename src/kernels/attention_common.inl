// What the forward and backward passes of attention share: blocks of query rows, their masks, and the small products.
//
// Layout: a block holds kRowLanes query rows of one kv head, one row per vector lane. A row is a (query, head) pair; the
// heads that share a kv head are neighbours, so that a block spans few positions and wastes little on the causal diagonal.
// Scores are computed transposed, [key, lane]: keys and values are read in place, one element at a time, and broadcast;
// the softmax runs down the lanes without any horizontal step.
#pragma once

#include "kernels/attention.h"
#include "kernels/scratch.h"
#include "kernels/simd.h"

namespace switchyard::kernels::SW_ISA {
namespace {

constexpr int kRowVectors = 2;
constexpr int kRowLanes = kRowVectors * kLanes;
constexpr int kKeyBlock = 64;
constexpr int kTileRows = kLanes == 16 ? 8 : 4;  // sums, 2 vectors of b and a broadcast fit the registers
constexpr float kLog2E = 1.44269504f;
constexpr float kLn2 = 0.693147181f;
constexpr float kInfinity = __builtin_inff();

enum class Start { zero, add, scaled };  // a product overwrites c, adds to c, or adds to c * scale

// c[i, :] = start + sum_t a[i * row + t * step] * b[t, :]  for i < R; rows of b and c are V vectors, ldb and ldc apart.
template <int R, int V, Start S>
[[gnu::noinline]] void tile(const float* a, int64_t row, int64_t step, const float* b, int64_t ldb, float* c, int64_t ldc,
                 int64_t depth, const Floats* scale) {
  Floats sum[R][V];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      if constexpr (S == Start::zero) sum[i][v] = Floats{};
      if constexpr (S == Start::add) sum[i][v] = load(c + i * ldc + v * kLanes);
      if constexpr (S == Start::scaled) sum[i][v] = load(c + i * ldc + v * kLanes) * scale[v];
    }
  for (int64_t t = 0; t < depth; ++t) {
    Floats right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) right[v] = load(b + t * ldb + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      const Floats left = splat(a[i * row + t * step]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[i][v] += left * right[v];
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(c + i * ldc + v * kLanes, sum[i][v]);
}

// The same for any number of rows.
template <int V, Start S>
inline void product(int64_t rows, const float* a, int64_t row, int64_t step, const float* b, int64_t ldb, float* c,
                    int64_t ldc, int64_t depth, const Floats* scale = nullptr) {
  int64_t i = 0;
  for (; i + kTileRows <= rows; i += kTileRows)
    tile<kTileRows, V, S>(a + i * row, row, step, b, ldb, c + i * ldc, ldc, depth, scale);
  for (; i + 2 <= rows; i += 2) tile<2, V, S>(a + i * row, row, step, b, ldb, c + i * ldc, ldc, depth, scale);
  if (i < rows) tile<1, V, S>(a + i * row, row, step, b, ldb, c + i * ldc, ldc, depth, scale);
}

// The first n <= kLanes elements at p, the rest zero.
inline Floats first_of(const float* p, int64_t n) { return n == kLanes ? load(p) : load_first(p, n); }

inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Rows first .. first + count - 1 of the queries * group rows of one (sequence, kv head).
struct RowBlock {
  int64_t count;
  int64_t sequence;
  int64_t query[kRowLanes], head[kRowLanes];
  int32_t last_key[kRowLanes];  // last visible key; -1: none
  int32_t segment[kRowLanes];
  int32_t least_last, most_last;        // over the rows
  int32_t least_segment, most_segment;  // over the rows
};

inline RowBlock row_block(const AttentionShape& s, int64_t sequence, int64_t kv_head, int64_t first) {
  const int64_t group = s.heads / s.kv_heads, rows = s.queries * group;
  RowBlock block;
  block.count = rows - first < kRowLanes ? rows - first : kRowLanes;
  block.sequence = sequence;
  block.least_last = block.least_segment = INT32_MAX;
  block.most_last = block.most_segment = INT32_MIN;
  for (int64_t lane = 0; lane < kRowLanes; ++lane) {
    block.last_key[lane] = -1;
    block.segment[lane] = -1;
    if (lane >= block.count) continue;
    const int64_t i = (first + lane) / group;
    block.query[lane] = i;
    block.head[lane] = kv_head * group + (first + lane) % group;
    const int64_t last = s.causal ? i + s.keys - s.queries : s.keys - 1;
    const int32_t visible = block.last_key[lane] = static_cast<int32_t>(last < -1 ? -1 : last);
    const int32_t segment = block.segment[lane] = s.q_segment ? s.q_segment[sequence * s.queries + i] : 0;
    block.least_last = visible < block.least_last ? visible : block.least_last;
    block.most_last = visible > block.most_last ? visible : block.most_last;
    block.least_segment = segment < block.least_segment ? segment : block.least_segment;
    block.most_segment = segment > block.most_segment ? segment : block.most_segment;
  }
  return block;
}

template <class T>
inline T* lane_row(const AttentionShape& s, const HeadRows<T>& x, const RowBlock& block, int64_t lane) {
  return x.data + block.sequence * x.sequence_stride + block.query[lane] * x.token_stride + block.head[lane] * s.head_dim;
}

template <class T>
inline T* head_rows(const AttentionShape& s, const HeadRows<T>& x, int64_t sequence, int64_t kv_head) {
  return x.data + sequence * x.sequence_stride + kv_head * s.head_dim;
}

enum class Visible { none, some, all };

// How much of keys first .. first + count - 1 the rows of the block see.
inline Visible visibility(const AttentionShape& s, const RowBlock& block, int64_t first, int64_t count) {
  if (first > block.most_last) return Visible::none;
  const bool whole = first + count - 1 <= block.least_last;
  if (!s.k_segment) return whole ? Visible::all : Visible::some;
  const int32_t* segment = s.k_segment + block.sequence * s.keys + first;
  int32_t least = segment[0], most = segment[0];
  for (int64_t j = 1; j < count; ++j) {
    least = segment[j] < least ? segment[j] : least;
    most = segment[j] > most ? segment[j] : most;
  }
  if (most < 0 || most < block.least_segment || least > block.most_segment) return Visible::none;
  const bool one_segment = least == most && block.least_segment == block.most_segment;
  return whole && one_segment ? Visible::all : Visible::some;
}

// scores [count, kRowLanes]: those of hidden keys become -inf.
[[gnu::noinline]] void hide(const AttentionShape& s, const RowBlock& block, int64_t first, int64_t count, float* scores) {
  const int32_t* segment = s.k_segment ? s.k_segment + block.sequence * s.keys + first : nullptr;
  for (int v = 0; v < kRowVectors; ++v) {
    const Ints last_key = load_ints(block.last_key + v * kLanes), row_segment = load_ints(block.segment + v * kLanes);
    for (int64_t j = 0; j < count; ++j) {
      float* at = scores + j * kRowLanes + v * kLanes;
      Ints seen = last_key >= static_cast<int32_t>(first + j);
      if (segment) seen &= (row_segment == segment[j]) & (splat_int(segment[j]) >= 0);
      store(at, select(seen, load(at), splat(-kInfinity)));
    }
  }
}

// to[d, lane] = factor * row of the lane [d]; lanes without a row get 0. d < head_dim.
[[gnu::noinline]] void rows_to_lanes(const AttentionShape& s, const HeadRows<const float>& from, const RowBlock& block,
                                     float factor, float* to) {
  for (int v = 0; v < kRowVectors; ++v) {
    const int64_t count = block.count - v * kLanes;  // lanes with a row, if less than kLanes
    const float* row[kLanes];
    for (int64_t i = 0; i < kLanes && i < count; ++i) row[i] = lane_row(s, from, block, v * kLanes + i);
    for (int64_t d = 0; d < s.head_dim; d += kLanes) {
      const int64_t width = s.head_dim - d < kLanes ? s.head_dim - d : kLanes;
      Floats x[kLanes];
      if (width == kLanes && count >= kLanes) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) x[i] = load(row[i] + d) * factor;
      } else {
        for (int64_t i = 0; i < kLanes; ++i) x[i] = i < count ? first_of(row[i] + d, width) * factor : Floats{};
      }
      transpose(x);
      float* column = to + d * kRowLanes + v * kLanes;
      for (int64_t i = 0; i < width; ++i) store(column + i * kRowLanes, x[i]);
    }
  }
}

// row of the lane [d] = from[d, lane] * factor[lane]
[[gnu::noinline]] void lanes_to_rows(const AttentionShape& s, const float* from, const Floats* factor, const RowBlock& block,
                                     const HeadRows<float>& to) {
  for (int v = 0; v < kRowVectors; ++v) {
    const int64_t left = block.count - v * kLanes, count = left < kLanes ? left : kLanes;
    float* row[kLanes];
    for (int64_t i = 0; i < count; ++i) row[i] = lane_row(s, to, block, v * kLanes + i);
    for (int64_t d = 0; d < s.head_dim; d += kLanes) {
      const int64_t width = s.head_dim - d < kLanes ? s.head_dim - d : kLanes;
      const float* column = from + d * kRowLanes + v * kLanes;
      Floats x[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) x[i] = i < width ? load(column + i * kRowLanes) * factor[v] : Floats{};
      transpose(x);
      if (width == kLanes)
        for (int64_t i = 0; i < count; ++i) store(row[i] + d, x[i]);
      else
        for (int64_t i = 0; i < count; ++i) store_first(row[i] + d, x[i], width);
    }
  }
}

}  // namespace
}  // namespace switchyard::kernels::SW_ISA
