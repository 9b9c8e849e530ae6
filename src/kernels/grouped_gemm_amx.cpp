// Grouped product with AMX tiles: bfloat16 operands, float32 sums; 32 x 32 of C in four tiles.
//
// A tile of A is 16 rows of 32 contraction steps, a tile of B is 16 pairs of contraction steps for 16 columns: row j holds,
// column by column, steps 2j and 2j + 1. Both are 1 KiB. A packed panel is 32 rows or columns: for each 32 steps two tiles.
#include <immintrin.h>

#include "kernels/amx_tiles.h"
#include "kernels/grouped_gemm_block.h"
#include "kernels/transpose_avx512.h"

namespace switchyard::kernels::gemm {
namespace {

using amx::kTileBytes;
constexpr int64_t kSide = 16;                   // rows of a tile, columns of a tile of C
constexpr int64_t kSteps = 32;                  // contraction steps in a tile
constexpr int64_t kPanel = 2 * kSide;
constexpr int64_t kGroup = 8 * kPanel;

__mmask16 first(int64_t n) { return n >= kSide ? 0xffff : n <= 0 ? 0 : static_cast<__mmask16>((1u << n) - 1); }

__m512i to_bf16(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

// The first n of 16 elements. Memory behind them is not even named: a masked load from a page that is not there is slow.
__m512 load_part(const float* p, int64_t n) { return n <= 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(first(n), p); }

// v[o]: the 32 steps of row or column o of a tile; kWhole: all of them exist, else `filled` of 16 and `depth` of 32 steps.
template <bool kWhole>
void load_along_k(const float* x, int64_t ld, int64_t filled, int64_t depth, __m512 (&v)[16]) {
#pragma GCC unroll 16
  for (int o = 0; o < kSide; ++o) {
    if (!kWhole && o >= filled) {
      v[o] = _mm512_setzero_ps();
      continue;
    }
    const float* row = x + o * ld;
    const __m512 low = kWhole ? _mm512_loadu_ps(row) : _mm512_maskz_loadu_ps(first(depth), row);
    const __m512 high = kWhole ? _mm512_loadu_ps(row + kSide) : load_part(row + kSide, depth - kSide);
    v[o] = _mm512_castsi512_ps(to_bf16(low, high));
  }
}

// v[j]: steps 2j and 2j + 1 of the 16 rows or columns of a tile, in pairs.
template <bool kWhole>
void load_across_k(const float* x, int64_t ld, int64_t filled, int64_t depth, __m512 (&v)[16]) {
  const __m512i in_pairs = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,  //
                                            23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
#pragma GCC unroll 16
  for (int j = 0; j < kSide; ++j) {
    const float* step = x + 2 * j * ld;
    __builtin_prefetch(step + kSteps * ld);
    __builtin_prefetch(step + (kSteps + 1) * ld);
    const __m512 even = kWhole ? _mm512_loadu_ps(step) : load_part(step, 2 * j < depth ? filled : 0);
    const __m512 odd = kWhole ? _mm512_loadu_ps(step + ld) : load_part(step + ld, 2 * j + 1 < depth ? filled : 0);
    v[j] = _mm512_castsi512_ps(_mm512_permutexvar_epi16(in_pairs, to_bf16(even, odd)));
  }
}

// One tile: rows or columns from o, steps from p.
template <bool kPairsInRows, bool kWhole>
void pack_tile(const Operand& x, const Piece& s, int64_t o, int64_t p, char* to) {
  __m512 v[16];
  if (x.along_k)
    load_along_k<kWhole>(x.data + o * x.ld + p, x.ld, s.o1 - o, s.k1 - p, v);
  else
    load_across_k<kWhole>(x.data + p * x.ld + o, x.ld, s.o1 - o, s.k1 - p, v);
  if (x.along_k == kPairsInRows) transpose_16x16(v);
#pragma GCC unroll 16
  for (int i = 0; i < kSide; ++i) _mm512_store_ps(to + i * 64, v[i]);
}

// Rows of the source are read from end to end: panel by panel where they run along k, else 32 steps of all panels at a time.
template <bool kPairsInRows>  // the layout of B; false: that of A
void pack(const Operand& x, const Piece& s, void* out) noexcept {
  const int64_t tiles = (s.k1 - s.k0 + kSteps - 1) / kSteps, panels = (s.o1 - s.o0 + kPanel - 1) / kPanel;
  const int64_t inner = x.along_k ? tiles : panels;
  for (int64_t i = 0; i < tiles * panels; ++i) {
    const int64_t panel = x.along_k ? i / inner : i % inner, tile = x.along_k ? i % inner : i / inner;
    const int64_t o = s.o0 + panel * kPanel, p = s.k0 + tile * kSteps;
    char* to = static_cast<char*>(out) + (panel * tiles + tile) * 2 * kTileBytes;
    if (o + kPanel <= s.o1 && p + kSteps <= s.k1) {
      pack_tile<kPairsInRows, true>(x, s, o, p, to);
      pack_tile<kPairsInRows, true>(x, s, o + kSide, p, to + kTileBytes);
    } else {
      pack_tile<kPairsInRows, false>(x, s, o, p, to);
      pack_tile<kPairsInRows, false>(x, s, o + kSide, p, to + kTileBytes);
    }
  }
}

// One tile of C: used in place if all of it exists, else through a buffer.
class TileOfC {
 public:
  TileOfC(float* c, int64_t ldc, int64_t rows, int64_t cols)
      : c_(c), ldc_(ldc), rows_(rows < kSide ? rows : kSide), cols_(cols) {}

  bool whole() const { return rows_ == kSide && cols_ >= kSide; }
  float* base() { return whole() ? c_ : buffer_; }
  int64_t stride() const { return 4 * (whole() ? ldc_ : kSide); }
  void before_load() {
    if (whole()) return;
    for (int64_t r = 0; r < rows_; ++r)
      _mm512_store_ps(buffer_ + r * kSide, _mm512_maskz_loadu_ps(first(cols_), c_ + r * ldc_));
  }
  void after_store() const {
    if (whole()) return;
    for (int64_t r = 0; r < rows_; ++r)
      _mm512_mask_storeu_ps(c_ + r * ldc_, first(cols_), _mm512_load_ps(buffer_ + r * kSide));
  }

 private:
  float* c_;
  int64_t ldc_, rows_, cols_;
  alignas(64) float buffer_[kSide * kSide];
};

template <int kTile>
[[gnu::always_inline]] inline void start_sum(const PackedProduct& p, TileOfC& t) {
  if (!p.add) return amx::zero<kTile>();
  t.before_load();
  amx::load<kTile>(t.base(), t.stride());
}
template <int kTile>
[[gnu::always_inline]] inline void store_sum(TileOfC& t) {
  amx::store<kTile>(t.base(), t.stride());
  t.after_store();
}

// A panel of A times a panel of B; kRowTiles and kColTiles say which of the four tiles of C exist.
template <int kRowTiles, int kColTiles>
void panel_product(const PackedProduct& p, const char* a, const char* b, int64_t row, int64_t col) {
  float* c = p.c + row * p.ldc + col;
  const int64_t rows = p.rows - row, cols = p.cols - col;
  TileOfC c00(c, p.ldc, rows, cols), c01(c + kSide, p.ldc, rows, cols - kSide);
  TileOfC c10(c + kSide * p.ldc, p.ldc, rows - kSide, cols), c11(c + kSide * p.ldc + kSide, p.ldc, rows - kSide, cols - kSide);
  start_sum<0>(p, c00);
  if constexpr (kColTiles == 2) start_sum<1>(p, c01);
  if constexpr (kRowTiles == 2) start_sum<2>(p, c10);
  if constexpr (kRowTiles == 2 && kColTiles == 2) start_sum<3>(p, c11);

  for (int64_t k = 0; k < p.k; k += kSteps, a += 2 * kTileBytes, b += 2 * kTileBytes) {
    amx::load<4>(a, 64);
    amx::load<6>(b, 64);
    amx::add_bfloat16_product<0, 4, 6>();
    if constexpr (kColTiles == 2) {
      amx::load<7>(b + kTileBytes, 64);
      amx::add_bfloat16_product<1, 4, 7>();
    }
    amx::zero<4>();
    if constexpr (kRowTiles == 2) {
      amx::load<5>(a + kTileBytes, 64);
      amx::add_bfloat16_product<2, 5, 6>();
    }
    amx::zero<6>();
    if constexpr (kRowTiles == 2 && kColTiles == 2) amx::add_bfloat16_product<3, 5, 7>();
    if constexpr (kRowTiles == 2) amx::zero<5>();
    if constexpr (kColTiles == 2) amx::zero<7>();
  }

  store_sum<0>(c00);
  if constexpr (kColTiles == 2) store_sum<1>(c01);
  if constexpr (kRowTiles == 2) store_sum<2>(c10);
  if constexpr (kRowTiles == 2 && kColTiles == 2) store_sum<3>(c11);
}

void any_panel_product(const PackedProduct& p, const char* a, const char* b, int64_t row, int64_t col) {
  const bool two_rows = p.rows - row > kSide, two_cols = p.cols - col > kSide;
  if (two_rows && two_cols)
    panel_product<2, 2>(p, a, b, row, col);
  else if (two_rows)
    panel_product<2, 1>(p, a, b, row, col);
  else if (two_cols)
    panel_product<1, 2>(p, a, b, row, col);
  else
    panel_product<1, 1>(p, a, b, row, col);
}

// Groups of columns, so that C is written in runs longer than a panel while the B of a group stays in the L2 cache.
void multiply(const PackedProduct& p) noexcept {
  static constexpr amx::TileConfig config;  // other libraries in the process set their own
  amx::configure(config);
  const int64_t a_panel_bytes = (p.k + kSteps - 1) / kSteps * 2 * kTileBytes;
  for (int64_t group = 0; group < p.cols; group += kGroup) {
    const int64_t end = p.cols - group < kGroup ? p.cols : group + kGroup;
    for (int64_t row = 0; row < p.rows; row += kPanel)
      for (int64_t col = group; col < end; col += kPanel)
        any_panel_product(p, static_cast<const char*>(p.a) + row / kPanel * a_panel_bytes,
                          static_cast<const char*>(p.b) + col / kPanel * p.b_panel_bytes, row, col);
  }
  amx::release();
}

}  // namespace

const BlockKernel kAmxBf16 = {.mr = kPanel, .nr = kPanel, .k_step = kSteps, .element_bytes = 2, .k_chunk = 512,
                              .block_rows = 256, .unshared_rows = 256, .rows_in_place = false,
                              .pack_a = pack<false>, .pack_b = pack<true>, .multiply = multiply};

}  // namespace switchyard::kernels::gemm
