// Packed strips with AMX: 16 lines of a strip are a tile of B as they lie in memory, 64 bytes of up to 16 rows a tile of A.
//
// Many rows: two tiles of A by two of B, so that every tile that is loaded serves two products. At most 16 rows: one tile of A
// by four strips, each a stream from memory of its own. Tiles are as high as there are rows, and so is the cost of a product.
//
// int4: lines are expanded into a buffer that stays in the L1 cache, where all rows meet them as int8.
#include "kernels/amx_tiles.h"
#include "kernels/packed/avx512_vectors.h"
#include "kernels/packed/expanded_strips.h"
#include "kernels/packed/tile.h"
#include "kernels/scratch.h"

namespace switchyard::kernels::packed {
namespace {

constexpr int64_t kSide = amx::kTileRows;  // rows of a tile, lines of a tile
constexpr int64_t kPanel = 2 * kSide;      // most rows that are multiplied together
constexpr int64_t kRowBytesOfLine = 4;     // what of a row meets a line of a strip, in any format that tiles multiply
constexpr int64_t kAhead = 4096;           // bytes from a line in use to the one that is asked for: the hardware stops at the end of a page

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

// Adds lines [begin, end) of the contraction to the sums.
template <WeightFormat kFormat, int R, int S>
void add_products(const TileCall& t, int64_t begin, int64_t end) {
  constexpr bool kFromMemory = kFormat != WeightFormat::int4;  // expanded strips are in the cache
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
#pragma GCC unroll 16
        for (int64_t i = 0; kFromMemory && i < kSide; ++i) __builtin_prefetch(lines + kAhead + i * kLineBytes);
      }
      if constexpr (kFormat == WeightFormat::bfloat16)
        amx::add_bfloat16_product<sum_tile(r, s), kLeft, kRight>();
      else
        amx::add_int8_product<sum_tile(r, s), kLeft, kRight>();
      if constexpr (r == R - 1) amx::zero<kRight>();
      if constexpr (s == S - 1) amx::zero<kLeft>();
    });
}

template <int R, int S>
void multiply_bfloat16(const TileCall& t) {
  const auto c = [&](auto at) { return t.c + at.r * kSide * t.ldc + at.s * kStrip; };
  for_each_sum<R, S>([&](auto at) {
    if (t.add)
      amx::load<sum_tile(at.r, at.s)>(c(at), 4 * t.ldc);
    else
      amx::zero<sum_tile(at.r, at.s)>();
  });
  add_products<WeightFormat::bfloat16, R, S>(t, t.line0, t.line1);
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

template <WeightFormat kFormat, int R, int S>
void multiply_integer(const TileCall& t) {
  alignas(64) int32_t dots[R * kSide * S * kStrip];
  for (int64_t begin = t.line0; begin < t.line1; begin += t.group_lines) {
    for_each_sum<R, S>([](auto at) { amx::zero<sum_tile(at.r, at.s)>(); });
    add_products<kFormat, R, S>(t, begin, begin + t.group_lines < t.line1 ? begin + t.group_lines : t.line1);
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
template <WeightFormat kFormat, int R, int S>
void multiply_panel(const TileCall& t, int64_t s = 0) {
  for (; s + S <= t.num_strips; s += S) {
    const TileCall block = part_of(t, 0, t.num_rows, s, S);
    if constexpr (kFormat == WeightFormat::bfloat16)
      multiply_bfloat16<R, S>(block);
    else
      multiply_integer<kFormat, R, S>(block);
  }
  if constexpr (S > 1)
    if (s < t.num_strips) multiply_panel<kFormat, R, S / 2>(t, s);
}

// Rows in panels; `configured` is how high the tiles are, 0 at first.
template <WeightFormat kFormat>
void multiply_rows(const TileCall& t, int64_t& configured) {
  for (int64_t row = 0; row < t.num_rows; row += kPanel) {
    const int64_t height = t.num_rows - row < kPanel ? t.num_rows - row : kPanel;
    const TileCall panel = part_of(t, row, height, 0, t.num_strips);
    if (height != configured) configure(configured = height);
    if (height > kSide)
      multiply_panel<kFormat, 2, 2>(panel);
    else
      multiply_panel<kFormat, 1, 4>(panel);
  }
}

// f(the call for strips [s, s + together)) for all strips in turn.
template <class F>
[[gnu::always_inline]] inline void for_strips(const TileCall& t, int64_t together, F f) {
  for (int64_t s = 0; s < t.num_strips; s += together) f(part_of(t, 0, t.num_rows, s, t.num_strips - s < together ? t.num_strips - s : together));
}

// Two strips stay in the cache while all panels of rows visit them.
template <WeightFormat kFormat>
void multiply(const TileCall& t) noexcept {
  int64_t configured = 0;
  for_strips(t, t.num_rows > kPanel ? 2 : t.num_strips, [&](const TileCall& strips) { multiply_rows<kFormat>(strips, configured); });
  amx::release();
}

// Lines are expanded once for all rows. Many rows: of two strips what leaves room in the L1 cache for a panel of rows and its sums
// (64 lines, 16 KiB expanded). At most 16 rows: of four strips little, so that reading memory and multiplying take short turns.
// A group is never cut, however long it is.
void multiply_int4(const TileCall& t) noexcept {
  const bool many = t.num_rows > kSide;
  const int64_t together = many ? 2 : 4, groups = (many ? 64 : 16) / t.group_lines;
  const int64_t lines = groups > 1 ? groups * t.group_lines : t.group_lines;
  char* const buffer = reinterpret_cast<char*>(thread_scratch(ScratchUse::own, together * expanded_bytes(t, lines) / 4));
  int64_t configured = 0;
  for_strips(t, together, [&](const TileCall& strips) {
    for (int64_t line = t.line0; line < t.line1; line += lines)
      multiply_rows<WeightFormat::int4>(expanded(strips, line, line + lines < t.line1 ? line + lines : t.line1, buffer), configured);
  });
  amx::release();
}

}  // namespace

// float32 has no tiles.
const TileKernel kAmxTiles[4] = {{}, {RowForm::bfloat16, multiply<WeightFormat::bfloat16>, 128}, {RowForm::int8, multiply<WeightFormat::int8>, 128},
                                 {RowForm::int8, multiply_int4, 128}};

}  // namespace switchyard::kernels::packed
