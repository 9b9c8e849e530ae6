// How packed weights lie in memory. One layout serves every instruction set, so that the choice of ISA stays out of stored
// weights.
//
// A matrix [n, k] (n outputs) is cut into strips of 16 outputs. A strip is a run of 64-byte lines in ascending order of the
// contraction index; a line holds 16 outputs by as many steps as fit:
//
//   format     steps a line   element (output c of the strip, step p of the line)
//   float32    1              float c
//   bfloat16   2              bfloat16 2c + p                      (a line is a row of an AMX tile)
//   int8       4              byte 4c + p, value q + 128           (the unsigned operand of VPDPBUSD and TDPBSUD)
//   int4       8              byte 4c + p % 4: low half p < 4, high half p >= 4; value q + 8
//
// Integer formats: w = scale * q with one bfloat16 scale per output and group of steps. The scales of a strip lie behind its
// lines, [groups][16]. Steps beyond k and outputs beyond n are zeros (q = 0).
#pragma once

#include <cstdint>
#include <string_view>

namespace switchyard::kernels::packed {

enum class WeightFormat { float32, bfloat16, int8, int4 };
inline constexpr WeightFormat kAllFormats[] = {WeightFormat::float32, WeightFormat::bfloat16, WeightFormat::int8, WeightFormat::int4};

[[nodiscard]] std::string_view name_of(WeightFormat format) noexcept;
// By its name; Error{usage} lists the names.
[[nodiscard]] WeightFormat parse_weight_format(std::string_view name);

inline constexpr int64_t kStrip = 16;      // outputs of a strip
inline constexpr int64_t kLineBytes = 64;

[[nodiscard, gnu::always_inline]] constexpr inline int64_t round_up(int64_t x, int64_t unit) noexcept { return (x + unit - 1) / unit * unit; }
[[nodiscard, gnu::always_inline]] constexpr inline bool is_integer(WeightFormat f) noexcept { return f == WeightFormat::int8 || f == WeightFormat::int4; }

// Steps of the contraction that a line holds.
[[nodiscard, gnu::always_inline]] constexpr inline int64_t steps_of_line(WeightFormat f) noexcept {
  return f == WeightFormat::float32 ? 1 : f == WeightFormat::bfloat16 ? 2 : f == WeightFormat::int8 ? 4 : 8;
}

// Steps that share a scale. A long group for int8, whose products would otherwise wait for the scaling of AMX tiles; a
// short one for int4, whose error it decides.
[[nodiscard]] constexpr int64_t default_group(WeightFormat f) noexcept { return f == WeightFormat::int8 ? 512 : f == WeightFormat::int4 ? 64 : 0; }

inline constexpr int kInt8Offset = 128, kInt4Offset = 8;  // added to q where it is stored

}  // namespace switchyard::kernels::packed
