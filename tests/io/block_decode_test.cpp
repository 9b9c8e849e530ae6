// Oracle of the decoders: one value at a time in float64, straight from the description of the layout (which bit of which byte),
// on random bytes; and recorded values of another implementation (tests/data/gguf/README.md).
#include "base/files.h"
#include "io/quant/block_format.h"
#include "io/quant/minifloat.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <vector>

namespace switchyard::io {
namespace {
namespace block_decode {

using Bytes = std::vector<std::byte>;
using Byte = const std::function<unsigned(int)>&;  // byte i of the block

double half(Byte b, int at) {
  const unsigned bits = b(at) | b(at + 1) << 8, exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, static_cast<int>(exponent) - 25);
  return bits >> 15 ? -magnitude : magnitude;
}

unsigned nibble(Byte b, int at, int i) { return i < 16 ? b(at + i) & 15 : b(at + i - 16) >> 4; }
unsigned bit(Byte b, int at, int i) { return b(at + i / 8) >> (i % 8) & 1; }
int signed_byte(unsigned v) { return v < 128 ? static_cast<int>(v) : static_cast<int>(v) - 256; }

// Scale (which = 0) or offset (which = 1) j of Q4_K / Q5_K.
unsigned scale_min(Byte b, int which, int j) {
  const int base = 4;
  if (j < 4) return b(base + 4 * which + j) & 63;
  const unsigned shared = b(base + 8 + j - 4);
  return (which == 0 ? shared & 15 : shared >> 4) | (b(base + 4 * which + j - 4) >> 6) << 4;
}

double q3_scale(Byte b, int j) {
  const unsigned low = j < 8 ? b(96 + j) & 15 : b(96 + j - 8) >> 4;
  return static_cast<double>(low | (b(104 + j % 4) >> (2 * (j / 4)) & 3) << 4) - 32;
}

const std::map<std::string, std::function<double(Byte, int)>> kOracles = {
    {"Q4_0", [](Byte b, int i) { return half(b, 0) * (static_cast<int>(nibble(b, 2, i)) - 8); }},
    {"Q4_1", [](Byte b, int i) { return half(b, 0) * nibble(b, 4, i) + half(b, 2); }},
    {"Q5_0", [](Byte b, int i) { return half(b, 0) * (static_cast<int>(nibble(b, 6, i) + 16 * bit(b, 2, i)) - 16); }},
    {"Q5_1", [](Byte b, int i) { return half(b, 0) * (nibble(b, 8, i) + 16 * bit(b, 4, i)) + half(b, 2); }},
    {"Q8_0", [](Byte b, int i) { return half(b, 0) * signed_byte(b(2 + i)); }},
    {"Q2_K", [](Byte b, int i) {
       const unsigned s = b(i / 16), code = b(16 + 32 * (i / 128) + i % 32) >> (2 * (i % 128 / 32)) & 3;
       return half(b, 80) * (s & 15) * code - half(b, 82) * (s >> 4);
     }},
    {"Q3_K", [](Byte b, int i) {
       const int code = static_cast<int>(b(32 + 32 * (i / 128) + i % 32) >> (2 * (i % 128 / 32)) & 3);
       const int high = static_cast<int>(b(i % 32) >> (i / 32) & 1);
       return half(b, 108) * q3_scale(b, i / 16) * (code - (high ? 0 : 4));
     }},
    {"Q4_K", [](Byte b, int i) {
       const unsigned pair = b(16 + 32 * (i / 64) + i % 32), code = i % 64 < 32 ? pair & 15 : pair >> 4;
       return half(b, 0) * scale_min(b, 0, i / 32) * code - half(b, 2) * scale_min(b, 1, i / 32);
     }},
    {"Q5_K", [](Byte b, int i) {
       const unsigned pair = b(48 + 32 * (i / 64) + i % 32), low = i % 64 < 32 ? pair & 15 : pair >> 4;
       const unsigned code = low + 16 * (b(16 + i % 32) >> (i / 32) & 1);
       return half(b, 0) * scale_min(b, 0, i / 32) * code - half(b, 2) * scale_min(b, 1, i / 32);
     }},
    {"Q6_K", [](Byte b, int i) {
       const int in_half = i % 128;
       const unsigned pair = b(64 * (i / 128) + in_half % 64), low = in_half < 64 ? pair & 15 : pair >> 4;
       const unsigned high = b(128 + 32 * (i / 128) + in_half % 32) >> (2 * (in_half / 32)) & 3;
       return half(b, 208) * signed_byte(b(192 + i / 16)) * (static_cast<int>(low + 16 * high) - 32);
     }},
    {"MXFP4", [](Byte b, int i) {
       static const double values[] = {0, .5, 1, 1.5, 2, 3, 4, 6};
       const unsigned code = nibble(b, 1, i);
       return (code & 8 ? -1 : 1) * values[code & 7] * std::pow(2.0, static_cast<int>(b(0)) - 127);
     }},
};

// Random bytes whose float16 fields (all bytes that are high bytes of one) are finite.
Bytes random_blocks(const BlockFormat& format, int64_t count, std::mt19937& random) {
  static const std::map<std::string_view, std::vector<int>> halves = {{"Q4_0", {0}}, {"Q4_1", {0, 2}}, {"Q5_0", {0}}, {"Q5_1", {0, 2}}, {"Q8_0", {0}},
                                                                      {"Q2_K", {80, 82}}, {"Q3_K", {108}}, {"Q4_K", {0, 2}}, {"Q5_K", {0, 2}}, {"Q6_K", {208}}};
  Bytes bytes(static_cast<size_t>(count * format.bytes));
  for (auto& byte : bytes) byte = static_cast<std::byte>(random());
  for (int64_t i = 0; i < count; ++i) {
    std::byte* block = bytes.data() + i * format.bytes;
    if (format.name == "MXFP4" && block[0] >= std::byte{252}) block[0] = std::byte{0};  // NaN, or beyond float32
    if (const auto found = halves.find(format.name); found != halves.end())
      for (const int at : found->second)
        if ((std::to_integer<int>(block[at + 1]) & 0x7C) == 0x7C) block[at + 1] &= std::byte{0xBF};
  }
  return bytes;
}

TEST(BlockDecode, EveryFormatFollowsItsDescription) {
  std::mt19937 random(11);
  for (const auto& [name, oracle] : kOracles) {
    const BlockFormat& format = *find_block_format(name);
    const int64_t count = 300;
    const Bytes bytes = random_blocks(format, count, random);
    std::vector<float> out(static_cast<size_t>(count * format.values));
    decode_blocks(format, bytes, out.data());
    for (int64_t i = 0; i < count; ++i) {
      const std::function<unsigned(int)> byte = [&](int at) { return std::to_integer<unsigned>(bytes[static_cast<size_t>(i * format.bytes + at)]); };
      for (int j = 0; j < format.values; ++j) {
        const double want = oracle(byte, j);
        // Two roundings of products and one of a difference of terms up to 63 * 65504 * 31.
        const double slack = 4e-7 * (std::abs(want) + 63 * std::abs(half(byte, name == "Q2_K" ? 82 : 2))) + 1e-45;
        ASSERT_NEAR(out[static_cast<size_t>(i * format.values + j)], want, slack) << name << " block " << i << " value " << j;
      }
    }
  }
}

// Values that the C library ggml decoded from the same bytes: equal but for the order of roundings.
TEST(BlockDecode, AgreesWithAnotherImplementation) {
  const auto golden = nlohmann::json::parse(read_text_file(SW_TEST_DATA "/gguf/blocks.json"));
  int formats = 0;
  for (const auto& [name, item] : golden.items()) {
    const BlockFormat* format = find_block_format(name);
    ASSERT_NE(format, nullptr) << name;
    Bytes bytes;
    for (const int byte : item.at("bytes")) bytes.push_back(static_cast<std::byte>(byte));
    const std::vector<float> want = item.at("values");
    std::vector<float> out(want.size());
    ASSERT_EQ(bytes.size() / static_cast<size_t>(format->bytes) * static_cast<size_t>(format->values), want.size());
    decode_blocks(*format, bytes, out.data());
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(out[i], want[i], 1e-6 * std::abs(want[i]) + 1e-7) << name << " value " << i;
    ++formats;
  }
  EXPECT_EQ(formats, 12);
}

// The definition: sign, exponent with bias, fraction; E4M3 gives its highest exponent to numbers.
TEST(Minifloat, All256CodesOfBothFormats) {
  for (int code = 0; code < 256; ++code) {
    const auto c = static_cast<uint8_t>(code);
    const double sign = code & 128 ? -1 : 1;
    const int e4 = code >> 3 & 15, f4 = code & 7, e5 = code >> 2 & 31, f5 = code & 3;
    const double v4 = sign * (e4 ? (1 + f4 / 8.0) * std::pow(2.0, e4 - 7) : f4 / 8.0 * std::pow(2.0, -6));
    const double v5 = sign * (e5 ? (1 + f5 / 4.0) * std::pow(2.0, e5 - 15) : f5 / 4.0 * std::pow(2.0, -14));
    if (e4 == 15 && f4 == 7) EXPECT_TRUE(std::isnan(f8_e4m3_to_float32(c)));
    else EXPECT_EQ(f8_e4m3_to_float32(c), v4) << code;
    if (e5 == 31 && f5) EXPECT_TRUE(std::isnan(f8_e5m2_to_float32(c)));
    else if (e5 == 31) EXPECT_EQ(f8_e5m2_to_float32(c), sign * HUGE_VAL);
    else EXPECT_EQ(f8_e5m2_to_float32(c), v5) << code;
  }
}

// Of all codes the nearest, of two the even one; larger values become the largest.
template <class Decode>
uint8_t nearest_code(double x, int largest, Decode decode) {
  const double magnitude = std::min<double>(std::abs(x), decode(static_cast<uint8_t>(largest)));
  int best = 0;
  for (int code = 0; code <= largest; ++code) {
    const double gap = std::abs(magnitude - decode(static_cast<uint8_t>(code))), least = std::abs(magnitude - decode(static_cast<uint8_t>(best)));
    if (gap < least || (gap == least && code % 2 == 0)) best = code;
  }
  return static_cast<uint8_t>(best | (std::signbit(x) ? 128 : 0));
}

TEST(Minifloat, EncodersTakeTheNearestCode) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> exponent(-20, 17);
  const auto check = [](float x) {
    ASSERT_EQ(float32_to_f8_e4m3(x), nearest_code(x, 0x7E, f8_e4m3_to_float32)) << x;
    ASSERT_EQ(float32_to_f8_e5m2(x), nearest_code(x, 0x7B, f8_e5m2_to_float32)) << x;
  };
  for (int i = 0; i < 4000; ++i) check(static_cast<float>(std::exp2(exponent(random)) * (i % 2 ? 1 : -1)));
  for (int code = 0; code < 0x7E; ++code) {  // every code and every tie
    const float a = f8_e4m3_to_float32(static_cast<uint8_t>(code)), b = f8_e4m3_to_float32(static_cast<uint8_t>(code + 1));
    check(a), check((a + b) / 2), check(-(a + b) / 2);
  }
  check(1e30F), check(0.0F), check(-0.0F);
  EXPECT_TRUE(std::isnan(f8_e4m3_to_float32(float32_to_f8_e4m3(std::nanf("")))));
}

TEST(Minifloat, FourBitsAndPowersOfTwo) {
  const double values[] = {0, .5, 1, 1.5, 2, 3, 4, 6};
  for (int code = 0; code < 16; ++code) {
    EXPECT_EQ(kE2m1[static_cast<size_t>(code)], values[code & 7] * (code & 8 ? -1 : 1));
    EXPECT_EQ(double_to_e2m1(kE2m1[static_cast<size_t>(code)]), code);
  }
  for (int i = -160; i <= 160; ++i) {
    const double x = i / 16.0;
    int best = 0;
    for (int code = 0; code < 8; ++code)
      if (const double gap = std::abs(std::abs(x) - values[code]), least = std::abs(std::abs(x) - values[best]); gap < least || (gap == least && code % 2 == 0))
        best = code;
    EXPECT_EQ(double_to_e2m1(x), best | (x < 0 ? 8 : 0)) << x;
  }
  for (int code = 0; code < 255; ++code) EXPECT_EQ(e8m0_to_float32(static_cast<uint8_t>(code)), std::pow(2.0, code - 127));
  EXPECT_TRUE(std::isnan(e8m0_to_float32(255)));
}

TEST(BlockFormat, NamesAndNumbersFindEachOther) {
  EXPECT_EQ(find_block_format("q4_k"), &format_of(GgmlType::q4_k));
  EXPECT_EQ(find_block_format("Q4_Z"), nullptr);
  EXPECT_EQ(find_block_format(4U), nullptr);  // a type whose support GGML removed
  EXPECT_EQ(find_block_format(39U)->name, "MXFP4");
}

}  // namespace block_decode
}  // namespace
}  // namespace switchyard::io
