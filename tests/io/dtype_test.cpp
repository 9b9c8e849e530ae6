#include "io/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace switchyard {
namespace {

// The value of a float format with `exponent_bits` and `fraction_bits`, from its definition, in double precision.
double value_of(uint32_t bits, int exponent_bits, int fraction_bits) {
  const uint32_t exponent_mask = (1U << exponent_bits) - 1;
  const uint32_t exponent = (bits >> fraction_bits) & exponent_mask;
  const uint32_t fraction = bits & ((1U << fraction_bits) - 1);
  const double sign = (bits >> (exponent_bits + fraction_bits)) & 1U ? -1 : 1;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == exponent_mask) return fraction ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp(1.0 + std::ldexp(fraction, -fraction_bits), static_cast<int>(exponent) - bias);
}

void expect_same(float got, double want, uint32_t bits) {
  if (std::isnan(want)) {
    EXPECT_TRUE(std::isnan(got)) << std::hex << bits;
  } else {
    EXPECT_EQ(got, want) << std::hex << bits;
    EXPECT_EQ(std::signbit(got), std::signbit(want)) << std::hex << bits;
  }
}

TEST(Dtype, EverySixteenBitPatternWidensExactly) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    expect_same(float16_to_float32(static_cast<uint16_t>(bits)), value_of(bits, 5, 10), bits);
    expect_same(bfloat16_to_float32(static_cast<uint16_t>(bits)), value_of(bits, 8, 7), bits);
  }
}

TEST(Dtype, BfloatsSurviveTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float wide = bfloat16_to_float32(static_cast<uint16_t>(bits));
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(bfloat16_to_float32(float32_to_bfloat16(wide))));
    } else {
      EXPECT_EQ(float32_to_bfloat16(wide), bits);
    }
  }
}

// Oracle: of the two neighbours the nearer one, of two equally near the one with an even last bit.
TEST(Dtype, RoundsToNearestEven) {
  std::mt19937 random(7);
  for (int i = 0; i < 200000; ++i) {
    uint32_t bits = random();
    if (i % 4 == 0) bits = (bits & 0xFFFF0000U) | 0x8000U;  // a tie
    const float value = std::bit_cast<float>(bits);
    if (std::isnan(value)) continue;
    const auto below = static_cast<uint16_t>(bits >> 16);  // towards zero
    const auto above = static_cast<uint16_t>(below + 1);
    // 2^128 in place of infinity: the next value if the exponent had no end.
    const auto wide = [](uint16_t b) { return (b & 0x7FFF) == 0x7F80 ? std::ldexp(b & 0x8000 ? -1.0 : 1.0, 128) : value_of(b, 8, 7); };
    if (std::isinf(value)) continue;
    const double to_below = std::abs(value - wide(below)), to_above = std::abs(value - wide(above));
    const uint16_t want = to_below < to_above ? below : to_above < to_below ? above : below % 2 == 0 ? below : above;
    ASSERT_EQ(float32_to_bfloat16(value), want) << std::hex << bits;
  }
  EXPECT_EQ(float32_to_bfloat16(std::numeric_limits<float>::infinity()), 0x7F80);
  EXPECT_EQ(float32_to_bfloat16(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_TRUE(std::isnan(bfloat16_to_float32(float32_to_bfloat16(std::bit_cast<float>(0x7F800001U)))));
}

TEST(Dtype, ConvertsUnalignedItems) {
  const double source[] = {1.5, -2.25, 1e300, std::nan("")};
  std::vector<std::byte> bytes(sizeof source + 1);
  std::memcpy(bytes.data() + 1, source, sizeof source);
  float out[4] = {};
  ASSERT_TRUE(to_float32(DType::f64, std::span(bytes).subspan(1), out));
  EXPECT_EQ(out[0], 1.5F);
  EXPECT_EQ(out[1], -2.25F);
  EXPECT_EQ(out[2], std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(out[3]));
  EXPECT_FALSE(to_float32(DType::i64, bytes, out));
}

TEST(Dtype, NamesAreReadBack) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64, DType::i64, DType::i32, DType::i16, DType::i8,
                            DType::u8, DType::boolean, DType::f8_e4m3, DType::f8_e5m2})
    EXPECT_EQ(dtype_from_name(name_of(dtype)), dtype);
  EXPECT_EQ(dtype_from_name("F31"), std::nullopt);
  EXPECT_EQ(item_size(DType::f64), 8);
  EXPECT_EQ(item_size(DType::f8_e5m2), 1);
}

}  // namespace
}  // namespace switchyard
