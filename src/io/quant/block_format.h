// Block formats of GGML tensors: a row of values is stored as blocks of a fixed number of values, each with scales of its own.
// Layouts: the type list of the GGUF description (github.com/ggml-org/ggml) and the block structures of that
// project (MIT). All multi-byte items are little-endian; nothing needs to be aligned.
//
// Error of our encoders, for finite input (tests/io/block_encode_test.cpp holds them to it). u(x) = x (1 + 2^-10) + 2^-24 is a
// scale rounded up to float16; amax, lo, hi are of the (sub-)block, min = max(0, -lo); a bound is half a step of the grid:
//   F16    half a unit in the last place: 2^-11 |x| + 2^-25          BF16  2^-8 |x|
//   Q8_0   every value: u(amax / 127) / 2
//   Q4_K   weighted RMS of 32 values: ((hi + min + dmin) / 15 + d) / 2 with dmin = u(max min / 63), d = u(max (hi + min + dmin) / 15 / 63)
//   Q6_K   weighted RMS of 16 values: (amax / 31 + d) / 2 with d = u(max amax / 31 / 127)
//   MXFP4  RMS of 32 values: amax / 4
// "weighted": value x counts with rms + |x|, because products with large weights carry large errors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace switchyard::io {

enum class GgmlType : uint32_t {
  f32 = 0, f16 = 1, q4_0 = 2, q4_1 = 3, q5_0 = 6, q5_1 = 7, q8_0 = 8, q8_1 = 9,
  q2_k = 10, q3_k = 11, q4_k = 12, q5_k = 13, q6_k = 14, q8_k = 15,
  iq2_xxs = 16, iq2_xs = 17, iq3_xxs = 18, iq1_s = 19, iq4_nl = 20, iq3_s = 21, iq2_s = 22, iq4_xs = 23,
  i8 = 24, i16 = 25, i32 = 26, i64 = 27, f64 = 28, iq1_m = 29, bf16 = 30, tq1_0 = 34, tq2_0 = 35, mxfp4 = 39,
};

struct BlockFormat {
  GgmlType type;
  std::string_view name;   // "Q4_K"
  int64_t values, bytes;   // of one block
  void (*decode)(const std::byte* blocks, int64_t count, float* out) noexcept;  // null: sizes are known, values are not read
  void (*encode)(const float* values, int64_t count, std::byte* blocks) noexcept;  // null: not written
  double largest;          // |value| that encode can hold; 0 without encode
};

// Null for a number that no file should hold.
[[nodiscard]] const BlockFormat* find_block_format(uint32_t type) noexcept;
[[nodiscard]] const BlockFormat& format_of(GgmlType type) noexcept;
// By name in any case ("q4_k"); null when there is none.
[[nodiscard]] const BlockFormat* find_block_format(std::string_view name) noexcept;

// Values of `blocks` into out[0 .. blocks.size() / bytes * values). Error{unsupported} for a format without decoder.
void decode_blocks(const BlockFormat& format, std::span<const std::byte> blocks, float* out);

// `values` as blocks. `values.size()` is a multiple of the block's, `out` has the bytes. Throws Error{numeric} that names
// `where` and the element for a value that is not finite or larger than the format can hold; Error{unsupported} without encoder.
void encode_blocks(const BlockFormat& format, std::span<const float> values, std::byte* out, const std::string& where);

// Names of the formats that can be written: "F32, F16, ...".
[[nodiscard]] std::string encodable_formats();

}  // namespace switchyard::io
