#include "io/dtype.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>

namespace switchyard {
namespace {

static_assert(std::endian::native == std::endian::little, "tensor files are little-endian and are mapped as they are");

struct Row {
  DType dtype;
  std::string_view name;
  int64_t item_bytes;
};

constexpr std::array<Row, 12> kTable{{{DType::f32, "F32", 4},
                                      {DType::f16, "F16", 2},
                                      {DType::bf16, "BF16", 2},
                                      {DType::f64, "F64", 8},
                                      {DType::i64, "I64", 8},
                                      {DType::i32, "I32", 4},
                                      {DType::i16, "I16", 2},
                                      {DType::i8, "I8", 1},
                                      {DType::u8, "U8", 1},
                                      {DType::boolean, "BOOL", 1},
                                      {DType::f8_e4m3, "F8_E4M3", 1},
                                      {DType::f8_e5m2, "F8_E5M2", 1}}};

const Row& row_of(DType dtype) noexcept { return kTable[static_cast<size_t>(dtype)]; }

template <class Item, class Convert>
void convert_all(std::span<const std::byte> bytes, float* out, Convert convert) noexcept {
  const size_t count = bytes.size() / sizeof(Item);
  for (size_t i = 0; i < count; ++i) {
    Item item;
    std::memcpy(&item, bytes.data() + i * sizeof(Item), sizeof(Item));
    out[i] = convert(item);
  }
}

}  // namespace

int64_t item_size(DType dtype) noexcept { return row_of(dtype).item_bytes; }

std::string_view name_of(DType dtype) noexcept { return row_of(dtype).name; }

std::optional<DType> dtype_from_name(std::string_view name) noexcept {
  for (const Row& row : kTable)
    if (row.name == name) return row.dtype;
  return std::nullopt;
}

float float16_to_float32(uint16_t bits) noexcept {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000U) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1FU;
  const uint32_t fraction = bits & 0x3FFU;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  const uint32_t wide_exponent = exponent == 0x1F ? 0xFF : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide_exponent << 23) | (fraction << 13));
}

float bfloat16_to_float32(uint16_t bits) noexcept { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

uint16_t float32_to_bfloat16(float value) noexcept {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x0040U);  // quiet: the upper half alone might be infinity
  const uint32_t lowest_kept_bit = (bits >> 16) & 1U;
  return static_cast<uint16_t>((bits + 0x7FFFU + lowest_kept_bit) >> 16);
}

uint16_t float32_to_float16(float value) noexcept {
  const uint32_t bits = std::bit_cast<uint32_t>(value), magnitude = bits & 0x7FFFFFFFU;
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000U);
  if (std::isnan(value)) return sign | 0x7E00U;
  if (magnitude >= 0x47800000U) return sign | 0x7C00U;  // 2^16 and above
  // Below 2^-14 the last place is 2^-24: adding 1/2 (whose last place that is) makes the hardware round there.
  if (magnitude < 0x38800000U) return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3F000000U);
  const uint32_t lowest_kept_bit = (magnitude >> 13) & 1U;
  return sign | static_cast<uint16_t>((magnitude - 0x38000000U + 0xFFFU + lowest_kept_bit) >> 13);  // exponent bias 127 -> 15
}

bool to_float32(DType dtype, std::span<const std::byte> bytes, float* out) noexcept {
  switch (dtype) {
    case DType::f32:
      if (bytes.size() >= sizeof(float)) std::memcpy(out, bytes.data(), bytes.size() / sizeof(float) * sizeof(float));
      return true;
    case DType::f16: convert_all<uint16_t>(bytes, out, float16_to_float32); return true;
    case DType::bf16: convert_all<uint16_t>(bytes, out, bfloat16_to_float32); return true;
    case DType::f64: convert_all<double>(bytes, out, [](double item) { return static_cast<float>(item); }); return true;
    default: return false;
  }
}

}  // namespace switchyard
