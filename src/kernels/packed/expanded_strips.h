// Strips of int4 rewritten as strips of int8 (format.h), a few groups at a time, for instructions that know no nibbles.
//
// A line of nibbles becomes two lines of bytes, its low halves before its high ones: steps stay in ascending order. A value keeps the
// offset of int4, which is what the rows' offsets make up for, so that sums are those of the nibbles themselves.
#pragma once

#include "kernels/packed/avx512_vectors.h"
#include "kernels/packed/tile.h"

namespace switchyard::kernels::packed {
namespace {

constexpr int64_t kExpandAhead = 4096;  // bytes from a line in use to the one that is asked for: the hardware stops at the end of a page

constexpr int64_t groups_of(const TileCall& t, int64_t lines) { return (lines + t.group_lines - 1) / t.group_lines; }

// Bytes of a strip's lines once they are expanded, its scales included.
constexpr int64_t expanded_bytes(const TileCall& t, int64_t lines) {
  return 2 * lines * kLineBytes + round_up(groups_of(t, lines) * kStrip * static_cast<int64_t>(sizeof(uint16_t)), kLineBytes);
}

[[gnu::always_inline]] inline void expand_lines(const char* from, int64_t lines, char* to) {
  for (const char* const end = from + lines * kLineBytes; from < end; from += kLineBytes, to += 2 * kLineBytes) {
    __builtin_prefetch(from + kExpandAhead);
    const auto pairs = Avx512Vectors::load_int(from);
    _mm512_store_si512(to, Avx512Vectors::low_nibbles(pairs));
    _mm512_store_si512(to + kLineBytes, Avx512Vectors::high_nibbles(pairs));
  }
}

// The part of an int4 call that is lines [begin, end) of its strips, whole groups, as a call on int8 strips in `buffer` (64-byte aligned,
// expanded_bytes for each strip).
inline TileCall expanded(const TileCall& t, int64_t begin, int64_t end, char* buffer) {
  const int64_t lines = end - begin, group = begin / t.group_lines;
  TileCall bytes = t;
  bytes.rows.data += begin * steps_of_line(WeightFormat::int4);
  bytes.rows.scales += group;
  bytes.rows.offsets += group;
  bytes.strips = buffer;
  bytes.strip_bytes = expanded_bytes(t, lines);
  bytes.scales_at = 2 * lines * kLineBytes;
  bytes.line0 = 0;
  bytes.line1 = 2 * lines;
  bytes.group_lines = 2 * t.group_lines;
  bytes.add = t.add || begin > t.line0;
  constexpr int64_t kGroupScales = kStrip * static_cast<int64_t>(sizeof(uint16_t));
  for (int64_t s = 0; s < t.num_strips; ++s) {
    const char* from = t.strips + s * t.strip_bytes;
    char* to = buffer + s * bytes.strip_bytes;
    expand_lines(from + begin * kLineBytes, lines, to);
    __builtin_memcpy(to + bytes.scales_at, from + t.scales_at + group * kGroupScales, static_cast<size_t>(groups_of(t, lines) * kGroupScales));
  }
  return bytes;
}

}  // namespace
}  // namespace switchyard::kernels::packed
