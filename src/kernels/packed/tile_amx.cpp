// Packed strips with AMX: 16 lines of a strip are a tile of B as they lie in memory, 64 bytes of up to 16 rows a tile of A.
//
// Many rows: two tiles of A by two of B, so that every tile that is loaded serves two products. At most 16 rows: one tile of A
// by four strips, each a stream from memory of its own. Tiles are as high as there are rows, and so is the cost of a product.
//
// No int4: a scale for every 64 steps is a scale for every tile. The vector units were no slower where both were tried (docs/performance.md).
#include "kernels/amx_tiles.h"
#include "kernels/packed/avx512_vectors.h"
#include "kernels/packed/tile.h"

namespace switchyard::kernels::packed {
namespace {

constexpr int64_t kSide = amx::kTileRows;  // rows of a tile, lines of a tile
constexpr int64_t kPanel = 2 * kSide;      // most rows that are multiplied together
constexpr int64_t kRowBytesOfLine = 4;     // what of a row meets a line of a strip, in any format that tiles multiply

// A block is R tiles of rows by S strips. Which register is what:
constexpr int sum_tile(int r, int s) { return 2 * r + s; }
constexpr int row_tile(int r) { return 4 + r; }
template <int R>
constexpr int strip_tile(int s) {
  return 4 + R + s % (4 - R);  // in turn
}

void configure(int64_t height) {
  amx::TileConfig config;
  if (height > kSide)
    config.rows[sum_tile(1, 0)] = config.rows[sum_tile(1, 1)] = config.rows[row_tile(1)] = static_cast<uint8_t>(height - kSide);
  else
    for (int tile = 0; tile <= row_tile(0); ++tile) config.rows[tile] = static_cast<uint8_t>(height);
  amx::configure(config);
}

// f(At<r, s>) for every tile of sums of a block.
template <int kRowTile, int kStripOfBlock>
struct At {
  static constexpr int r = kRowTile, s = kStripOfBlock;
};
template <int R, int S, int i = 0, class F>
[[gnu::always_inline]] inline void for_each_sum(F f) {
  if constexpr (i < R * S) {
    f(At<i / S, i % S>{});
    for_each_sum<R, S, i + 1>(f);
  }
}

// What is asked of memory beside a tile of a strip. Streams: each tile is met once, the same strip a page further on.
struct FetchStream {
  void operator()(const char* tile, int) {
    constexpr int64_t kAhead = 4096;  // the hardware stops at the end of a page
#pragma GCC unroll 16
    for (int64_t i = 0; i < kSide; ++i) __builtin_prefetch(tile + kAhead + i * kLineBytes);
  }
};
// Panels of rows visit two strips one after the other: each asks for its share of the next two, from their start to their end.
struct FetchNext {
  const char* next[2];
  int64_t lines;
  void operator()(const char*, int s) {
    for (int64_t i = 0; i < lines; ++i, next[s] += kLineBytes) __builtin_prefetch(next[s], 0, 2);  // into the L2 cache
  }
};

// Adds lines [begin, end) of the contraction to the sums.
template <WeightFormat kFormat, int R, int S, class Fetch>
void add_products(const TileCall& t, int64_t begin, int64_t end, Fetch& fetch) {
  const int64_t stride = t.rows.stride, strip_bytes = t.strip_bytes;
  const char* x = t.rows.data + begin * kRowBytesOfLine;
  const char* w = t.strips + begin * kLineBytes;
  for (const char* const w_end = t.strips + end * kLineBytes; w < w_end; w += amx::kTileBytes, x += amx::kTileRowBytes)
    for_each_sum<R, S>([&](auto at) __attribute__((always_inline)) {
      constexpr int r = at.r, s = at.s, kLeft = row_tile(r), kRight = strip_tile<R>(s);
      if constexpr (s == 0) amx::load<kLeft>(x + r * kSide * stride, stride);
      if constexpr (r == 0) {
        const char* lines = w + s * strip_bytes;
        __asm__("" : "+r"(lines));  // else GCC 12 keeps an address for each prefetch, in more registers than there are
        amx::load<kRight>(lines, kLineBytes);
        fetch(lines, s);
      }
      if constexpr (kFormat == WeightFormat::bfloat16)
        amx::add_bfloat16_product<sum_tile(r, s), kLeft, kRight>();
      else
        amx::add_int8_product<sum_tile(r, s), kLeft, kRight>();
      if constexpr (r == R - 1) amx::zero<kRight>();
      if constexpr (s == S - 1) amx::zero<kLeft>();
    });
}

template <int R, int S, class Fetch>
void multiply_bfloat16(const TileCall& t, Fetch& fetch) {
  const auto c = [&](auto at) { return t.c + at.r * kSide * t.ldc + at.s * kStrip; };
  for_each_sum<R, S>([&](auto at) {
    if (t.add)
      amx::load<sum_tile(at.r, at.s)>(c(at), 4 * t.ldc);
    else
      amx::zero<sum_tile(at.r, at.s)>();
  });
  add_products<WeightFormat::bfloat16, R, S>(t, t.line0, t.line1, fetch);
  for_each_sum<R, S>([&](auto at) { amx::store<sum_tile(at.r, at.s)>(c(at), 4 * t.ldc); });
}

// c (+)= the sums of group g, [rows, 16 * S], times their scales.
template <int S>
void add_scaled(const TileCall& t, int64_t g, const int32_t* dots, bool add) {
  using V = Avx512Vectors;
  V::Float scales[S];
  for (int s = 0; s < S; ++s) scales[s] = V::scales(reinterpret_cast<const uint16_t*>(t.strips + s * t.strip_bytes + t.scales_at) + g * kStrip);
  for (int64_t r = 0; r < t.num_rows; ++r) {
    const int64_t i = r * t.rows.groups + g;
    const auto offset = V::broadcast_int(reinterpret_cast<const char*>(t.rows.offsets + i));
    const auto scale = V::broadcast(t.rows.scales + i);
    for (int s = 0; s < S; ++s) {
      float* c = t.c + r * t.ldc + s * kStrip;
      const auto dot = _mm512_add_epi32(V::load_int(reinterpret_cast<const char*>(dots + (r * S + s) * kStrip)), offset);
      V::store(c, V::fma(V::to_float(dot), V::mul(scales[s], scale), add ? V::load(c) : V::zero()));
    }
  }
}

template <int R, int S, class Fetch>
void multiply_int8(const TileCall& t, Fetch& fetch) {
  alignas(64) int32_t dots[R * kSide * S * kStrip];
  for (int64_t begin = t.line0; begin < t.line1; begin += t.group_lines) {
    for_each_sum<R, S>([](auto at) { amx::zero<sum_tile(at.r, at.s)>(); });
    add_products<WeightFormat::int8, R, S>(t, begin, begin + t.group_lines < t.line1 ? begin + t.group_lines : t.line1, fetch);
    for_each_sum<R, S>([&](auto at) { amx::store<sum_tile(at.r, at.s)>(dots + (at.r * kSide * S + at.s) * kStrip, 4 * S * kStrip); });
    add_scaled<S>(t, begin / t.group_lines, dots, t.add || begin > t.line0);
  }
}

TileCall part_of(const TileCall& t, int64_t row, int64_t num_rows, int64_t s, int64_t num_strips) {
  TileCall part = t;
  part.rows.data += row * t.rows.stride;
  if (t.rows.scales) {
    part.rows.scales += row * t.rows.groups;
    part.rows.offsets += row * t.rows.groups;
  }
  part.num_rows = num_rows;
  part.strips += s * t.strip_bytes;
  part.num_strips = num_strips;
  part.c += row * t.ldc + s * kStrip;
  return part;
}

// All strips from s on, S at a time, then fewer.
template <WeightFormat kFormat, int R, int S, class Fetch>
void multiply_panel(const TileCall& t, Fetch& fetch, int64_t s = 0) {
  for (; s + S <= t.num_strips; s += S) {
    const TileCall block = part_of(t, 0, t.num_rows, s, S);
    if constexpr (kFormat == WeightFormat::bfloat16)
      multiply_bfloat16<R, S>(block, fetch);
    else
      multiply_int8<R, S>(block, fetch);
  }
  if constexpr (S > 1)
    if (s < t.num_strips) multiply_panel<kFormat, R, S / 2>(t, fetch, s);
}

// Rows in panels, few of them with `S` strips at once. `configured` is how high the tiles are, 0 at first.
template <WeightFormat kFormat, int S, class Fetch>
void multiply_rows(const TileCall& t, int64_t& configured, Fetch fetch) {
  for (int64_t row = 0; row < t.num_rows; row += kPanel) {
    const int64_t height = t.num_rows - row < kPanel ? t.num_rows - row : kPanel;
    const TileCall panel = part_of(t, row, height, 0, t.num_strips);
    if (height != configured) configure(configured = height);
    if (height > kSide)
      multiply_panel<kFormat, 2, 2>(panel, fetch);
    else
      multiply_panel<kFormat, 1, S>(panel, fetch);
  }
}

template <WeightFormat kFormat>
void multiply(const TileCall& t) noexcept {
  int64_t configured = 0;
  if (t.num_rows <= kPanel) {
    multiply_rows<kFormat, 4>(t, configured, FetchStream{});
  } else {  // two strips stay in the L2 cache while all panels visit them
    const int64_t panels = (t.num_rows + kPanel - 1) / kPanel;
    for (int64_t s = 0; s < t.num_strips; s += 2) {
      const TileCall strips = part_of(t, 0, t.num_rows, s, t.num_strips - s < 2 ? t.num_strips - s : 2);
      const char* const next = strips.strips + 2 * t.strip_bytes + t.line0 * kLineBytes;
      multiply_rows<kFormat, 2>(strips, configured, FetchNext{{next, next + t.strip_bytes}, (kSide + panels - 1) / panels});
    }
  }
  amx::release();
}

// 1024 lines are 4 KiB of a row, 1 MiB of 256 rows.
constexpr TileKernel tiles(RowForm form, void (*multiply)(const TileCall&) noexcept) { return {form, multiply, 256, 1024, 64 << 10, true}; }

}  // namespace

// float32 has no tiles.
const TileKernel kAmxTiles[4] = {{}, tiles(RowForm::bfloat16, multiply<WeightFormat::bfloat16>), tiles(RowForm::int8, multiply<WeightFormat::int8>), {}};

}  // namespace switchyard::kernels::packed
