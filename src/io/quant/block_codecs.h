// The codecs behind block_format.h: count blocks in, count * values floats out, and back. One file per kin of formats.
#pragma once

#include "io/dtype.h"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace switchyard::io {

inline constexpr int kSuperBlock = 256;  // values of a k-quant or i-quant block

#define SW_BLOCK_DECODER(name) void decode_##name(const std::byte* blocks, int64_t count, float* out) noexcept
#define SW_BLOCK_ENCODER(name) void encode_##name(const float* values, int64_t count, std::byte* blocks) noexcept
SW_BLOCK_DECODER(f32);
SW_BLOCK_DECODER(f16);
SW_BLOCK_DECODER(bf16);
SW_BLOCK_DECODER(f64);
SW_BLOCK_DECODER(q4_0);
SW_BLOCK_DECODER(q4_1);
SW_BLOCK_DECODER(q5_0);
SW_BLOCK_DECODER(q5_1);
SW_BLOCK_DECODER(q8_0);
SW_BLOCK_DECODER(mxfp4);
SW_BLOCK_DECODER(q2_k);
SW_BLOCK_DECODER(q3_k);
SW_BLOCK_DECODER(q4_k);
SW_BLOCK_DECODER(q5_k);
SW_BLOCK_DECODER(q6_k);
SW_BLOCK_DECODER(iq2_xxs);
SW_BLOCK_ENCODER(f32);
SW_BLOCK_ENCODER(f16);
SW_BLOCK_ENCODER(bf16);
SW_BLOCK_ENCODER(q8_0);
SW_BLOCK_ENCODER(mxfp4);
SW_BLOCK_ENCODER(q4_k);
SW_BLOCK_ENCODER(q6_k);
#undef SW_BLOCK_DECODER
#undef SW_BLOCK_ENCODER

inline uint8_t byte_at(const std::byte* p, int64_t i) noexcept { return std::to_integer<uint8_t>(p[i]); }

inline float half_at(const std::byte* p) noexcept {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return float16_to_float32(bits);
}

inline void put_half(std::byte* p, uint16_t bits) noexcept { std::memcpy(p, &bits, sizeof bits); }

// The eight (scale, min) pairs of Q4_K and Q5_K: 6 bits each in 12 bytes. The first four of each kind fill the low bits of
// bytes 0-3 and 4-7; of the others, low nibbles share bytes 8-11 and the two high bits sit on top of bytes 0-7.
struct ScaleMins {
  uint8_t scale[8], min[8];
};

inline ScaleMins unpack_scale_mins(const std::byte* p) noexcept {
  ScaleMins s;
  for (int j = 0; j < 4; ++j) {
    s.scale[j] = byte_at(p, j) & 63;
    s.min[j] = byte_at(p, j + 4) & 63;
    s.scale[j + 4] = static_cast<uint8_t>((byte_at(p, j + 8) & 15) | (byte_at(p, j) >> 6 << 4));
    s.min[j + 4] = static_cast<uint8_t>((byte_at(p, j + 8) >> 4) | (byte_at(p, j + 4) >> 6 << 4));
  }
  return s;
}

// The smallest float16 that is at least `value` (>= 0): a scale that covers its block.
uint16_t half_at_least(double value) noexcept;

}  // namespace switchyard::io
