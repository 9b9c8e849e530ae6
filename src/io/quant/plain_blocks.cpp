// Formats without super-blocks: floats, and blocks of 32 integers with one scale (and one offset). In the 4- and 5-bit ones,
// value j (j < 16) is the low nibble of byte j and value j + 16 its high nibble.
#include "io/quant/block_codecs.h"

#include "io/quant/minifloat.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace switchyard::io {
namespace {

constexpr int kBlock = 32;

template <class Item, class Convert>
void convert_items(const std::byte* in, int64_t count, float* out, Convert convert) noexcept {
  for (int64_t i = 0; i < count; ++i) {
    Item item;
    std::memcpy(&item, in + i * static_cast<int64_t>(sizeof item), sizeof item);
    out[i] = convert(item);
  }
}

// scale * (nibble | fifth bit << 4) + offset.
void decode_nibbles(const std::byte* nibbles, uint32_t fifth_bits, float scale, float offset, float* out) noexcept {
  for (int j = 0; j < kBlock / 2; ++j) {
    const int low = (byte_at(nibbles, j) & 15) | static_cast<int>((fifth_bits >> j & 1) << 4);
    const int high = (byte_at(nibbles, j) >> 4) | static_cast<int>((fifth_bits >> (j + 16) & 1) << 4);
    out[j] = scale * static_cast<float>(low) + offset;
    out[j + 16] = scale * static_cast<float>(high) + offset;
  }
}

uint32_t word_at(const std::byte* p) noexcept {
  uint32_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

// Codes of the block for the exponent byte, and the sum of squared errors.
double encode_with_exponent(const float* x, int exponent_byte, uint8_t* codes) noexcept {
  const double scale = e8m0_to_double(static_cast<uint8_t>(exponent_byte));
  double error = 0;
  for (int j = 0; j < kBlock; ++j) {
    codes[j] = double_to_e2m1(x[j] / scale);
    const double rest = x[j] - kE2m1[codes[j]] * scale;
    error += rest * rest;
  }
  return error;
}

}  // namespace

void decode_f32(const std::byte* blocks, int64_t count, float* out) noexcept {
  if (count > 0) std::memcpy(out, blocks, static_cast<size_t>(count) * sizeof(float));
}
// As float16_to_float32, without branches: the bits in the place of a float32 mean 2^-112 of the value, subnormals included.
void decode_f16(const std::byte* blocks, int64_t count, float* out) noexcept {
  convert_items<uint16_t>(blocks, count, out, [](uint16_t half) {
    const uint32_t magnitude = static_cast<uint32_t>(half & 0x7FFF) << 13;
    const uint32_t scaled = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112F);
    const uint32_t infinite_or_nan = magnitude >= 0x0F800000U ? 0x7F800000U : 0U;
    return std::bit_cast<float>(scaled | infinite_or_nan | static_cast<uint32_t>(half & 0x8000) << 16);
  });
}
void decode_bf16(const std::byte* blocks, int64_t count, float* out) noexcept {
  convert_items<uint16_t>(blocks, count, out, [](uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
  });
}
void decode_f64(const std::byte* blocks, int64_t count, float* out) noexcept {
  convert_items<double>(blocks, count, out, [](double value) { return static_cast<float>(value); });
}

void decode_q4_0(const std::byte* b, int64_t count, float* out) noexcept {
  for (; count > 0; --count, b += 18, out += kBlock) {
    const float d = half_at(b);
    decode_nibbles(b + 2, 0, d, -8 * d, out);
  }
}

void decode_q4_1(const std::byte* b, int64_t count, float* out) noexcept {
  for (; count > 0; --count, b += 20, out += kBlock) decode_nibbles(b + 4, 0, half_at(b), half_at(b + 2), out);
}

void decode_q5_0(const std::byte* b, int64_t count, float* out) noexcept {
  for (; count > 0; --count, b += 22, out += kBlock) {
    const float d = half_at(b);
    decode_nibbles(b + 6, word_at(b + 2), d, -16 * d, out);
  }
}

void decode_q5_1(const std::byte* b, int64_t count, float* out) noexcept {
  for (; count > 0; --count, b += 24, out += kBlock) decode_nibbles(b + 8, word_at(b + 4), half_at(b), half_at(b + 2), out);
}

void decode_q8_0(const std::byte* b, int64_t count, float* out) noexcept {
  for (; count > 0; --count, b += 34, out += kBlock) {
    const float d = half_at(b);
    for (int j = 0; j < kBlock; ++j) out[j] = d * static_cast<float>(static_cast<int8_t>(byte_at(b + 2, j)));
  }
}

void decode_mxfp4(const std::byte* b, int64_t count, float* out) noexcept {
  for (; count > 0; --count, b += 17, out += kBlock) {
    const float scale = e8m0_to_float32(byte_at(b, 0));
    for (int j = 0; j < kBlock / 2; ++j) {
      out[j] = scale * kE2m1[byte_at(b + 1, j) & 15];
      out[j + 16] = scale * kE2m1[byte_at(b + 1, j) >> 4];
    }
  }
}

void encode_f32(const float* values, int64_t count, std::byte* blocks) noexcept {
  if (count > 0) std::memcpy(blocks, values, static_cast<size_t>(count) * sizeof(float));
}
void encode_f16(const float* values, int64_t count, std::byte* blocks) noexcept {
  for (int64_t i = 0; i < count; ++i) put_half(blocks + 2 * i, float32_to_float16(values[i]));
}
void encode_bf16(const float* values, int64_t count, std::byte* blocks) noexcept {
  for (int64_t i = 0; i < count; ++i) put_half(blocks + 2 * i, float32_to_bfloat16(values[i]));
}

uint16_t half_at_least(double value) noexcept {
  uint16_t bits = float32_to_float16(static_cast<float>(value));
  if (float16_to_float32(bits) < value) ++bits;  // the next larger one: bits of positive floats are in their order
  return bits;
}

// The scale is rounded up, so that no value is cut off: the error is half a step.
void encode_q8_0(const float* x, int64_t count, std::byte* b) noexcept {
  for (; count > 0; --count, b += 34, x += kBlock) {
    float amax = 0;
    for (int j = 0; j < kBlock; ++j) amax = std::max(amax, std::abs(x[j]));
    const uint16_t bits = half_at_least(amax / 127.0);
    put_half(b, bits);
    const float d = float16_to_float32(bits);
    for (int j = 0; j < kBlock; ++j) b[2 + j] = static_cast<std::byte>(static_cast<int8_t>(d > 0 ? std::lrintf(x[j] / d) : 0));
  }
}

// The OCP rule takes the exponent of the largest value, which cuts values above 6/8 of the range; the next exponent is tried,
// too, and the smaller squared error wins.
void encode_mxfp4(const float* x, int64_t count, std::byte* b) noexcept {
  for (; count > 0; --count, b += 17, x += kBlock) {
    float amax = 0;
    for (int j = 0; j < kBlock; ++j) amax = std::max(amax, std::abs(x[j]));
    int exponent = 0;
    if (amax > 0) std::frexp(amax, &exponent);  // amax in [1/2, 1) * 2^exponent
    int byte = std::clamp(exponent - 1 - 2 + 127, 0, 254);
    uint8_t codes[kBlock], wider[kBlock];
    const double error = encode_with_exponent(x, byte, codes);
    if (byte < 254 && encode_with_exponent(x, byte + 1, wider) < error) ++byte, std::copy_n(wider, kBlock, codes);
    b[0] = static_cast<std::byte>(amax > 0 ? byte : 0);
    for (int j = 0; j < kBlock / 2; ++j) b[1 + j] = static_cast<std::byte>(codes[j] | codes[j + 16] << 4);
  }
}

}  // namespace switchyard::io
