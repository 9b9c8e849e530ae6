// Encoders keep the bounds that io/quant/block_format.h states, on random and on nasty blocks, and refuse what they cannot hold.
#include "expect_error.h"
#include "io/dtype.h"
#include "io/quant/block_format.h"
#include "io/quant/scaled_blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace switchyard::io {
namespace {
namespace block_encode {

using testing::expect_error;
using Values = std::vector<float>;

double rounded_up(double scale) { return scale > 0 ? scale * (1 + 0x1p-10) + 0x1p-24 : 0; }  // a bound of u(x)

Values decoded(const BlockFormat& format, const Values& x) {
  std::vector<std::byte> bytes(x.size() / static_cast<size_t>(format.values) * static_cast<size_t>(format.bytes));
  encode_blocks(format, x, bytes.data(), "x");
  Values out(x.size());
  decode_blocks(format, bytes, out.data());
  return out;
}

double amax(const float* x, int n) {
  double most = 0;
  for (int i = 0; i < n; ++i) most = std::max(most, static_cast<double>(std::abs(x[i])));
  return most;
}

// Weighted root mean square of the difference; plain when `weighted` is false.
double rms_error(const float* x, const float* y, int n, bool weighted) {
  double squares = 0, total = 0, error = 0;
  for (int i = 0; i < n; ++i) squares += static_cast<double>(x[i]) * x[i];
  for (int i = 0; i < n; ++i) {
    const double w = weighted ? std::sqrt(squares / n) + std::abs(x[i]) : 1;
    total += w, error += w * (static_cast<double>(x[i]) - y[i]) * (static_cast<double>(x[i]) - y[i]);
  }
  return total > 0 ? std::sqrt(error / total) : 0;
}

// Blocks of 256 of many kinds.
std::vector<Values> cases() {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  std::vector<Values> out;
  const auto add = [&](auto value) {
    Values x(256);
    for (size_t i = 0; i < x.size(); ++i) x[i] = value(i);
    out.push_back(std::move(x));
  };
  for (int k = 0; k < 40; ++k) add([&](size_t) { return normal(random) * std::exp2(static_cast<float>(k - 30)); });
  for (int k = 0; k < 8; ++k) add([&](size_t) { return std::pow(normal(random), 5.0F); });             // heavy tails
  add([](size_t) { return 0.0F; });
  add([](size_t i) { return i == 77 ? 1000.0F : 0.0F; });                                             // one outlier
  add([&](size_t i) { return i == 77 ? -1000.0F : 0.01F * normal(random); });
  add([](size_t) { return 3.25F; });                                                                  // constant
  add([](size_t) { return -3.25F; });
  add([&](size_t) { return std::abs(normal(random)) + 5; });                                          // far from zero
  add([&](size_t) { return -std::abs(normal(random)) - 5; });
  add([](size_t i) { return i % 2 ? 1.0F : -1.0F; });
  add([&](size_t) { return normal(random) * 1e-40F; });                                               // denormals
  add([](size_t) { return std::numeric_limits<float>::denorm_min(); });
  add([&](size_t i) { return i / 32 == 3 ? normal(random) : normal(random) * 1e-4F; });               // one loud sub-block
  add([](size_t i) { return static_cast<float>(i) - 128; });
  return out;
}

constexpr double kSlack = 1 + 1e-6;  // the bounds are of exact arithmetic, decoding rounds to float32
constexpr double kTiny = 1e-44;

TEST(BlockEncode, EightBitsAreWithinHalfAStep) {
  for (const Values& x : cases()) {
    const Values y = decoded(format_of(GgmlType::q8_0), x);
    for (size_t b = 0; b < x.size(); b += 32) {
      const double bound = rounded_up(amax(&x[b], 32) / 127) / 2;
      for (size_t i = b; i < b + 32; ++i) ASSERT_LE(std::abs(x[i] - y[i]), bound * kSlack + kTiny) << i;
    }
  }
}

TEST(BlockEncode, Q4KKeepsItsBound) {
  for (const Values& x : cases()) {
    const Values y = decoded(format_of(GgmlType::q4_k), x);
    std::vector<double> hi, min;
    for (size_t b = 0; b < 256; b += 32) {
      const auto [low, high] = std::minmax_element(&x[b], &x[b] + 32);
      hi.push_back(*high), min.push_back(std::max(0.0F, -*low));
    }
    const double dmin = rounded_up(*std::max_element(min.begin(), min.end()) / 63);
    double widest = 0;
    for (size_t j = 0; j < 8; ++j) widest = std::max(widest, (hi[j] + min[j] + dmin) / 15);
    const double d = rounded_up(widest / 63);
    for (size_t j = 0; j < 8; ++j) {
      const double bound = ((hi[j] + min[j] + dmin) / 15 + d) / 2;
      ASSERT_LE(rms_error(&x[32 * j], &y[32 * j], 32, true), bound * kSlack + kTiny) << "sub-block " << j << " of " << x[0];
    }
  }
}

TEST(BlockEncode, Q6KKeepsItsBound) {
  for (const Values& x : cases()) {
    const Values y = decoded(format_of(GgmlType::q6_k), x);
    const double d = rounded_up(amax(x.data(), 256) / 31 / 127);
    for (size_t b = 0; b < 256; b += 16) {
      const double bound = (amax(&x[b], 16) / 31 + d) / 2;
      ASSERT_LE(rms_error(&x[b], &y[b], 16, true), bound * kSlack + kTiny) << b << " of " << x[0];
    }
  }
}

TEST(BlockEncode, Mxfp4KeepsItsBound) {
  for (const Values& x : cases()) {
    const Values y = decoded(format_of(GgmlType::mxfp4), x);
    for (size_t b = 0; b < 256; b += 32) ASSERT_LE(rms_error(&x[b], &y[b], 32, false), amax(&x[b], 32) / 4 * kSlack + 0x1p-127) << b;
  }
}

// What the search is for: below the plain quantiser on normal values. The figures are what a plain min-max grid of as many
// steps gives for 32 (16) normal values: step^2 / 12 with the expected range of 4.2 (largest magnitude 2.1) deviations.
TEST(BlockEncode, SearchBeatsThePlainGrid) {
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  Values x(256 * 200);
  for (float& v : x) v = normal(random);
  const auto n = static_cast<int>(x.size());
  const double q4 = rms_error(x.data(), decoded(format_of(GgmlType::q4_k), x).data(), n, false);
  const double q6 = rms_error(x.data(), decoded(format_of(GgmlType::q6_k), x).data(), n, false);
  EXPECT_LT(q4, 0.95 * 4.2 / 15 / std::sqrt(12.0));
  EXPECT_LT(q6, 2.1 / 31 / std::sqrt(12.0));
}

TEST(BlockEncode, GridPointsComeBackExactly) {
  Values x(256);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 16) * 63 / 8 - 63;  // d = 1/8 * 63, dmin = 1
  const Values y = decoded(format_of(GgmlType::q4_k), x);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i], 63.0 / 8 * 0.01) << i;
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 16) * 4 - 31;
  const Values z = decoded(format_of(GgmlType::q6_k), x);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(z[i], x[i], 0.05) << i;
}

TEST(BlockEncode, HalvesRoundToNearestEven) {
  std::mt19937 random(13);
  for (uint32_t bits = 0; bits < 0x7C00; ++bits) {  // every finite one, the tie above it, and points beside the tie
    const float a = float16_to_float32(static_cast<uint16_t>(bits));
    const double b = bits + 1 == 0x7C00 ? 65536.0 : float16_to_float32(static_cast<uint16_t>(bits + 1));
    const auto tie = static_cast<float>((a + b) / 2);
    ASSERT_EQ(float32_to_float16(a), bits);
    ASSERT_EQ(float32_to_float16(tie), bits % 2 == 0 ? bits : bits + 1) << tie;
    ASSERT_EQ(float32_to_float16(std::nextafter(tie, 0.0F)), bits);
    ASSERT_EQ(float32_to_float16(-std::nextafter(tie, 1e9F)), (bits + 1) | 0x8000U);
  }
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {  // the decoder of blocks, against the one of single items
    const auto half = static_cast<uint16_t>(bits);
    float value = 0;
    decode_blocks(format_of(GgmlType::f16), std::as_bytes(std::span(&half, 1)), &value);
    const float want = float16_to_float32(half);
    ASSERT_TRUE(value == want || (std::isnan(value) && std::isnan(want))) << bits;
    ASSERT_EQ(std::signbit(value), std::signbit(want));
  }
  EXPECT_EQ(float32_to_float16(1e30F), 0x7C00);
  EXPECT_EQ(float32_to_float16(-std::numeric_limits<float>::infinity()), 0xFC00);
  EXPECT_TRUE(std::isnan(float16_to_float32(float32_to_float16(std::nanf("")))));
}

TEST(BlockEncode, RefusesWhatItCannotHold) {
  Values x(256, 1.0F);
  std::vector<std::byte> out(256 * 4);
  for (const auto name : {"F32", "F16", "BF16", "Q8_0", "Q4_K", "Q6_K", "MXFP4"}) {
    const BlockFormat& format = *find_block_format(name);
    for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), std::nanf("")}) {
      x[200] = bad;
      expect_error(ErrorKind::numeric, {"w.weight", "element 200", name}, [&] { encode_blocks(format, x, out.data(), "w.weight"); });
    }
  }
  x[200] = 70000;
  expect_error(ErrorKind::numeric, {"65504"}, [&] { encode_blocks(format_of(GgmlType::f16), x, out.data(), "w"); });
  expect_error(ErrorKind::unsupported, {"Q2_K cannot be written", "Q4_K"}, [&] { encode_blocks(format_of(GgmlType::q2_k), x, out.data(), "w"); });
  float y[256];
  expect_error(ErrorKind::unsupported, {"IQ1_S"}, [&] { decode_blocks(format_of(GgmlType::iq1_s), std::span(out).first(50), y); });
}

TEST(ScaledBlocks, Fp8TakesTheScaleOfItsBlock) {
  const int64_t rows = 5, columns = 7, block = 3;  // blocks that the border cuts
  std::vector<std::byte> codes(35);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::byte>(0x38);  // 1.0
  const Values scales{1, 2, 3, 4, 5, 6};
  Values out(35);
  decode_fp8_blocks({DType::f8_e4m3, rows, columns, block, block, codes, scales}, out.data());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) EXPECT_EQ(out[static_cast<size_t>(r * columns + c)], scales[static_cast<size_t>(r / 3 * 3 + c / 3)]);
  const Values one{0.5F};
  decode_fp8_blocks({DType::f8_e5m2, rows, columns, block, block, std::vector<std::byte>(35, std::byte{0x40}), one}, out.data());
  for (const float value : out) EXPECT_EQ(value, 1.0F);  // 2.0 * 0.5
}

TEST(ScaledBlocks, Fp8IsWithinHalfAUnitInTheLastPlace) {
  for (const DType dtype : {DType::f8_e4m3, DType::f8_e5m2}) {
    const double share = dtype == DType::f8_e4m3 ? 1.0 / 28 : 1.0 / 14, relative = dtype == DType::f8_e4m3 ? 0x1p-4 : 0x1p-3;
    const double subnormal = dtype == DType::f8_e4m3 ? 0x1p-10 / 448 : 0x1p-17 / 57344;  // half the smallest code, of amax
    for (const Values& x : cases()) {
      std::vector<std::byte> codes(256);
      std::vector<float> scales;
      encode_fp8_blocks(dtype, x, 16, 16, 16, codes.data(), scales);
      Values y(256);
      decode_fp8_blocks({dtype, 16, 16, 16, 16, codes, scales}, y.data());
      const double most = amax(x.data(), 256), floor = most < 1e-30 ? most : 0;  // the scale is no denormal
      for (size_t i = 0; i < x.size(); ++i) {
        const double error = std::abs(static_cast<double>(x[i]) - y[i]);
        ASSERT_LE(error, share * most * kSlack + floor) << i;
        ASSERT_LE(error, std::max(relative * std::abs(x[i]), subnormal * most) * kSlack + floor) << i;
      }
    }
  }
  Values bad(4, 1.0F);
  bad[2] = std::nanf("");
  std::vector<std::byte> codes(4);
  std::vector<float> scales;
  expect_error(ErrorKind::numeric, {"element 2"}, [&] { encode_fp8_blocks(DType::f8_e4m3, bad, 2, 2, 2, codes.data(), scales); });
}

TEST(ScaledBlocks, Mxfp4RowsAreTheGgmlBlocksInAnotherOrder) {
  Values x = cases()[31];
  std::vector<std::byte> blocks(128), scales(8);
  encode_mxfp4_rows(x, blocks.data(), scales.data());
  Values y(256);
  decode_mxfp4_rows(blocks, scales, y.data());
  EXPECT_EQ(y, decoded(format_of(GgmlType::mxfp4), x));
  // Low nibble first: codes 1 (0.5) and 15 (-6) under the exponent 128 (times 2).
  std::vector<std::byte> one(16, std::byte{0xF1}), exponent{std::byte{128}};
  decode_mxfp4_rows(one, exponent, y.data());
  EXPECT_EQ(y[0], 1.0F);
  EXPECT_EQ(y[1], -12.0F);
}

}  // namespace block_encode
}  // namespace
}  // namespace switchyard::io
