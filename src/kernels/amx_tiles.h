// The eight AMX tile registers as functions, for files compiled once per instruction set (hence the unnamed namespace).
//
// Inline assembly with a memory clobber: GCC 12 declares neither that its tile loads read memory nor that its ldtilecfg reads
// all 64 bytes. The compiler knows nothing of the registers: a kernel numbers its tiles itself.
//
// Zero each operand tile after its last use. It costs nothing and nearly doubles the rate while the other hyperthread of the
// core is busy (presumably spare tile registers are shared).
#pragma once

#include <cstdint>

namespace switchyard::kernels::amx {
namespace {

inline constexpr int64_t kTileRows = 16, kTileRowBytes = 64, kTileBytes = kTileRows * kTileRowBytes;

// Rows of each tile and the bytes of a row; as written, all tiles are whole.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

#ifndef SW_EMULATE_TILES  // tests/kernels/tile_model.h has these functions for CPUs without the instructions

[[gnu::always_inline]] inline void configure(const TileConfig& config) { __asm__ volatile("ldtilecfg %0" ::"m"(config)); }
[[gnu::always_inline]] inline void release() { __asm__ volatile("tilerelease"); }

template <int kTile>
[[gnu::always_inline]] inline void load(const void* base, int64_t stride) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(base), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
[[gnu::always_inline]] inline void store(void* base, int64_t stride) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(base), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
[[gnu::always_inline]] inline void zero() {
  __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile) : "memory");
}

// C += A * B, a row of B holding as many steps for each column as fit 4 bytes: pairs of bfloat16 with float32 sums,
template <int kC, int kA, int kB>
[[gnu::always_inline]] inline void add_bfloat16_product() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB) : "memory");
}
// or four bytes, signed in A and unsigned in B, with int32 sums.
template <int kC, int kA, int kB>
[[gnu::always_inline]] inline void add_int8_product() {
  __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB) : "memory");
}

#endif

}  // namespace
}  // namespace switchyard::kernels::amx
