// The eight tile registers of AMX in plain C++. Included before a kernel's source, it takes the place of the instructions in
// kernels/amx_tiles.h, so that the kernel runs on any CPU.
//
// After Intel's Software Developer's Manual, volume 2 (LDTILECFG, TILELOADD, TDPBF16PS, TDPBSUD): what is read, written and
// zeroed, in which order a product sums, and which uses raise an exception. Departs from the manual: denormal numbers are kept.
#pragma once

#include <cstddef>

#define SW_EMULATE_TILES
#include "kernels/amx_tiles.h"

namespace switchyard::kernels::amx {
namespace {

struct Tile {
  int64_t rows = 0, row_bytes = 0;  // 0: not configured
  uint32_t words[kTileRows][kTileRowBytes / 4] = {};
};
thread_local Tile model_tiles[8];

// In place of SIGILL and SIGSEGV; a kernel, which is noexcept, ends the program.
struct Fault {
  const char* rule;
};
inline void require(bool holds, const char* rule) {
  if (!holds) throw Fault{rule};
}

inline Tile& configured(int tile) {
  require(model_tiles[tile].rows > 0, "a tile is used that is not configured");
  return model_tiles[tile];
}

inline void release() {
  for (Tile& t : model_tiles) t = {};
}

inline void configure(const TileConfig& c) {
  require(c.palette == 1 && c.start_row == 0, "the palette is 1, tiles start at row 0");
  for (const uint8_t byte : c.reserved) require(byte == 0, "reserved bytes are zero");
  release();
  for (int i = 0; i < 16; ++i) {
    require(i < 8 || (c.rows[i] == 0 && c.row_bytes[i] == 0), "there are eight tiles");
    require(c.rows[i] <= kTileRows && c.row_bytes[i] <= kTileRowBytes, "a tile has at most 16 rows of 64 bytes");
    require((c.rows[i] == 0) == (c.row_bytes[i] == 0), "a tile has rows and columns or neither");
    if (i < 8) model_tiles[i].rows = c.rows[i], model_tiles[i].row_bytes = c.row_bytes[i];
  }
}

template <int kTile>
void zero() {
  Tile& t = configured(kTile);
  t = {.rows = t.rows, .row_bytes = t.row_bytes};
}

template <int kTile>
void load(const void* base, int64_t stride) {
  zero<kTile>();
  Tile& t = configured(kTile);
  for (int64_t r = 0; r < t.rows; ++r) __builtin_memcpy(t.words[r], static_cast<const char*>(base) + r * stride, static_cast<size_t>(t.row_bytes));
}

template <int kTile>
void store(void* base, int64_t stride) {
  const Tile& t = configured(kTile);
  for (int64_t r = 0; r < t.rows; ++r) __builtin_memcpy(static_cast<char*>(base) + r * stride, t.words[r], static_cast<size_t>(t.row_bytes));
}

inline float as_float(uint32_t bits) { return __builtin_bit_cast(float, bits); }

template <int kC, int kA, int kB>
void check_shapes() {
  static_assert(kC != kA && kC != kB && kA != kB, "a product is of three different tiles");
  const Tile &c = configured(kC), &a = configured(kA), &b = configured(kB);
  require(c.rows == a.rows && c.row_bytes == b.row_bytes && a.row_bytes == 4 * b.rows && b.row_bytes % 4 == 0, "shapes of a product fit");
}

// The even and the odd steps of a product are summed apart, then joined, then added to C.
template <int kC, int kA, int kB>
void add_bfloat16_product() {
  check_shapes<kC, kA, kB>();
  Tile& c = model_tiles[kC];
  const Tile &a = model_tiles[kA], &b = model_tiles[kB];
  for (int64_t m = 0; m < c.rows; ++m) {
    float even[16] = {}, odd[16] = {};
    for (int64_t k = 0; k < b.rows; ++k)
      for (int64_t n = 0; n < b.row_bytes / 4; ++n) {  // products are exact: fused into the sums or not
        even[n] += as_float(a.words[m][k] << 16) * as_float(b.words[k][n] << 16);
        odd[n] += as_float(a.words[m][k] & 0xffff0000u) * as_float(b.words[k][n] & 0xffff0000u);
      }
    for (int64_t n = 0; n < b.row_bytes / 4; ++n) c.words[m][n] = __builtin_bit_cast(uint32_t, as_float(c.words[m][n]) + (even[n] + odd[n]));
  }
}

template <int kC, int kA, int kB>
void add_int8_product() {
  check_shapes<kC, kA, kB>();
  Tile& c = model_tiles[kC];
  const Tile &a = model_tiles[kA], &b = model_tiles[kB];
  for (int64_t m = 0; m < c.rows; ++m)
    for (int64_t k = 0; k < b.rows; ++k)
      for (int shift = 0; shift < 32; shift += 8) {
        const int32_t left = static_cast<int8_t>(a.words[m][k] >> shift);
        for (int64_t n = 0; n < b.row_bytes / 4; ++n) c.words[m][n] += static_cast<uint32_t>(left * static_cast<uint8_t>(b.words[k][n] >> shift));
      }
}

}  // namespace
}  // namespace switchyard::kernels::amx
