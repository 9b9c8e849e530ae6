// Register tiles over packed strips, written once for AVX2, AVX-512 and AVX-512 VNNI. Include it in one file per instruction
// set; everything is in an unnamed namespace because each of those files is compiled with other flags.
//
// A tile is R rows by S strips, all sums in registers. Few rows: many strips, since every strip is a stream from memory of its
// own and each sum is one chain of dependent additions. Many rows: as many as the registers hold, two strips.
//
// A vector policy V provides: Float, Int, kWidth; load, store, broadcast, fma, zero for floats; load_int, broadcast_int (4 bytes),
// even_bf16, odd_bf16 (the two steps of a bfloat16 line as floats), low_nibbles, high_nibbles, dot_bytes and dot_nibbles (add products of
// four unsigned by four signed bytes), to_float, scales (kWidth bfloat16 as floats); kRegisters, and the highest tiles kRows and kIntRows.
#pragma once

#include <cstdint>

#include "kernels/packed/tile.h"

namespace switchyard::kernels::packed {
namespace {

// Strips of a tile of `rows` rows: as many as the registers hold, with `beside` vectors of weights per vector of outputs and one
// value of the rows.
template <class V>
constexpr int strips_for(int rows, int beside) {
  constexpr int kPerStrip = static_cast<int>(kStrip) / V::kWidth;
  int strips = 8;
  while (strips > 1 && (rows + beside) * strips * kPerStrip + 1 > V::kRegisters) strips /= 2;
  return strips;
}

// Sums of a tile: R rows by N vectors.
template <class V, int R, int N>
struct Sums {
  typename V::Float v[R][N];

  void start(const TileCall& t, const float* c) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) v[r][i] = t.add ? V::load(c + r * t.ldc + i * V::kWidth) : V::zero();
  }
  void finish(const TileCall& t, float* c) const {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) V::store(c + r * t.ldc + i * V::kWidth, v[r][i]);
  }
};

// One step of the contraction: N vectors of weights for R rows.
template <class V, int R, int N>
[[gnu::always_inline]] inline void add_step(Sums<V, R, N>& sums, const typename V::Float (&w)[N], const char* x, int64_t stride) {
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    const auto left = V::broadcast(reinterpret_cast<const float*>(x + r * stride));
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) sums.v[r][i] = V::fma(left, w[i], sums.v[r][i]);
  }
}

// Asks for what comes next while line `line` is worked on: the weights kAhead bytes further on (the hardware stops asking at the end
// of a page), and of the panel of rows below, which reads the same weights again, the cache lines beside those in use.
constexpr int64_t kAhead = 2048;

// Behind the end of a strip that is the beginning of the strip S further on, which the next tile takes up in its place.
template <int S>
[[gnu::always_inline]] inline void prefetch_weights(const TileCall& t, const char* w, int64_t line) {
  const int64_t ahead = line * kLineBytes + kAhead;
  const char* const to = w + ahead + (ahead < t.strip_bytes ? 0 : (S - 1) * t.strip_bytes);
#pragma GCC unroll 8
  for (int s = 0; s < S; ++s) __builtin_prefetch(to + s * t.strip_bytes);
}

// The scales of the group that is kAhead bytes of weights further on; behind the end those of the strip that the next tile takes up.
template <int S>
[[gnu::always_inline]] inline void prefetch_scales(const TileCall& t, const char* w, int64_t group) {
  constexpr int64_t kScaleBytes = 2 * kStrip;
  const int64_t ahead = group + kAhead / (t.group_lines * kLineBytes) + 1, groups = (t.strip_bytes - t.scales_at) / kScaleBytes;
  const char* const to = w + t.scales_at + kScaleBytes * ahead + (ahead < groups ? 0 : S * t.strip_bytes - groups * kScaleBytes);
#pragma GCC unroll 8
  for (int s = 0; s < S; ++s) __builtin_prefetch(to + s * t.strip_bytes);
}

// One of the lines of R rows, in turn: `step` counts the floats of a row.
template <int R>
[[gnu::always_inline]] inline void prefetch_rows(const TileCall& t, const char* x, int64_t step) {
  if constexpr (R > 8) __builtin_prefetch(x + (R + step % kStrip) * t.rows.stride + step / kStrip * kLineBytes);
}

template <class V>
struct Float32Tile {
  static constexpr int kRows = V::kRows;
  static constexpr int strips(int rows) { return strips_for<V>(rows, 1); }

  template <int R, int S>
  static void run(const TileCall& t, const char* x, const char* w, float* c) {
    constexpr int kPerStrip = static_cast<int>(kStrip) / V::kWidth, N = S * kPerStrip;
    Sums<V, R, N> sums;
    sums.start(t, c);
    for (int64_t line = t.line0; line < t.line1; ++line) {
      prefetch_weights<S>(t, w, line);
      prefetch_rows<R>(t, x, line);
      typename V::Float weights[N];
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i)
        weights[i] = V::load(reinterpret_cast<const float*>(w + i / kPerStrip * t.strip_bytes + line * kLineBytes) + i % kPerStrip * V::kWidth);
      add_step<V, R, N>(sums, weights, x + 4 * line, t.rows.stride);
    }
    sums.finish(t, c);
  }
};

template <class V>
struct Bfloat16Tile {
  static constexpr int kRows = V::kRows - 1;  // a mask takes registers as well
  static constexpr int strips(int rows) { return strips_for<V>(rows, 1); }

  template <int R, int S>
  static void run(const TileCall& t, const char* x, const char* w, float* c) {
    constexpr int kPerStrip = static_cast<int>(kStrip) / V::kWidth, N = S * kPerStrip;
    Sums<V, R, N> sums;
    sums.start(t, c);
    for (int64_t line = t.line0; line < t.line1; ++line) {
      prefetch_weights<S>(t, w, line);
      prefetch_rows<R>(t, x, 2 * line);
      prefetch_rows<R>(t, x, 2 * line + 1);
      const auto pairs = [&](int i) { return V::load_int(w + i / kPerStrip * t.strip_bytes + line * kLineBytes + i % kPerStrip * 4 * V::kWidth); };
      typename V::Float weights[N];
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) weights[i] = V::even_bf16(pairs(i));
      add_step<V, R, N>(sums, weights, x + 8 * line, t.rows.stride);
      __asm__ volatile("" ::: "memory");  // read the line again rather than keep it in registers that the sums need
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) weights[i] = V::odd_bf16(pairs(i));
      add_step<V, R, N>(sums, weights, x + 8 * line + 4, t.rows.stride);
    }
    sums.finish(t, c);
  }
};

template <class V, WeightFormat kFormat>
struct IntegerTile {
  static constexpr int kRows = V::kIntRows;
  static constexpr int strips(int rows) { return strips_for<V>(rows, V::kIntBeside); }

  template <int R, int S>
  static void run(const TileCall& t, const char* x, const char* w, float* c) {
    constexpr int kPerStrip = static_cast<int>(kStrip) / V::kWidth, N = S * kPerStrip;
    constexpr int kHalves = kFormat == WeightFormat::int4 ? 2 : 1;
    Sums<V, R, N> sums;
    sums.start(t, c);
    for (int64_t begin = t.line0; begin < t.line1; begin += t.group_lines) {
      const int64_t g = begin / t.group_lines, end = begin + t.group_lines < t.line1 ? begin + t.group_lines : t.line1;
      prefetch_scales<S>(t, w, g);
      typename V::Int dot[R][N];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
        for (int i = 0; i < N; ++i) dot[r][i] = V::broadcast_int(reinterpret_cast<const char*>(t.rows.offsets + r * t.rows.groups + g));
      for (int64_t line = begin; line < end; ++line) {
        prefetch_weights<S>(t, w, line);
        typename V::Int bytes[N];
#pragma GCC unroll 16
        for (int i = 0; i < N; ++i) bytes[i] = V::load_int(w + i / kPerStrip * t.strip_bytes + line * kLineBytes + i % kPerStrip * 4 * V::kWidth);
#pragma GCC unroll 2
        for (int half = 0; half < kHalves; ++half) {
#pragma GCC unroll 16
          for (int r = 0; r < R; ++r) {
            const auto left = V::broadcast_int(x + r * t.rows.stride + 4 * (kHalves * line + half));
#pragma GCC unroll 16
            for (int i = 0; i < N; ++i) {
              if constexpr (kFormat == WeightFormat::int8)
                dot[r][i] = V::dot_bytes(dot[r][i], bytes[i], left);
              else
                dot[r][i] = V::dot_nibbles(dot[r][i], half == 0 ? V::low_nibbles(bytes[i]) : V::high_nibbles(bytes[i]), left);
            }
          }
        }
      }
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) {
        const auto scale = V::scales(reinterpret_cast<const uint16_t*>(w + i / kPerStrip * t.strip_bytes + t.scales_at) + g * kStrip + i % kPerStrip * V::kWidth);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
          sums.v[r][i] = V::fma(V::to_float(dot[r][i]), V::mul(scale, V::broadcast(t.rows.scales + r * t.rows.groups + g)), sums.v[r][i]);
      }
    }
    sums.finish(t, c);
  }
};

// R rows from row r0: all strips, S at a time, then fewer.
template <class V, class Tile, int R, int S>
void strips_of(const TileCall& t, int64_t s, int64_t end) {
  for (; s + S <= end; s += S) Tile::template run<R, S>(t, t.rows.data, t.strips + s * t.strip_bytes, t.c + s * kStrip);
  if constexpr (S > 1)
    if (s < end) strips_of<V, Tile, R, S / 2>(t, s, end);
}

template <class V, class Tile, int R = Tile::kRows>
void rows_of(int64_t rows, const TileCall& t, int64_t s, int64_t end) {
  if constexpr (R > 1)
    if (rows < R) return rows_of<V, Tile, R - 1>(rows, t, s, end);
  strips_of<V, Tile, R, Tile::strips(R)>(t, s, end);
}

// Rows are cut into panels of almost equal height. A few strips stay in the cache while all panels visit them.
template <class V, class Tile>
void multiply(const TileCall& t) noexcept {
  const int64_t panels = (t.num_rows + Tile::kRows - 1) / Tile::kRows;
  const int64_t together = panels > 1 ? 2 : t.num_strips;
  for (int64_t s = 0; s < t.num_strips; s += together) {
    const int64_t end = s + together < t.num_strips ? s + together : t.num_strips;
    for (int64_t panel = 0, row = 0; panel < panels; ++panel) {
      const int64_t next = t.num_rows * (panel + 1) / panels;
      TileCall part = t;
      part.rows.data += row * t.rows.stride;
      if (t.rows.scales) {
        part.rows.scales += row * t.rows.groups;
        part.rows.offsets += row * t.rows.groups;
      }
      part.c += row * t.ldc;
      rows_of<V, Tile>(next - row, part, s, end);
      row = next;
    }
  }
}

}  // namespace
}  // namespace switchyard::kernels::packed
