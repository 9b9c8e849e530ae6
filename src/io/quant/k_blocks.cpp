// k-quants: super-blocks of 256 values whose sub-blocks have small integer scales under one or two float16.
#include "io/quant/block_codecs.h"

namespace switchyard::io {
namespace {

// 32 values scale * (code >> shift & 3 or 15 ...) - offset; `code(l)` gives the integer.
template <int N, class Code>
inline void scaled(float scale, float offset, float* out, Code code) noexcept {
  for (int l = 0; l < N; ++l) out[l] = scale * static_cast<float>(code(l)) - offset;
}

}  // namespace

// 16 bytes of scales (low nibble) and offsets (high nibble) of 16 values each; 64 bytes of 2-bit codes, where byte l of a half
// holds values l, l + 32, l + 64, l + 96; d, dmin. x = d * scale * code - dmin * min.
void decode_q2_k(const std::byte* b, int64_t count, float* out) noexcept {
  for (; count > 0; --count, b += 84) {
    const float d = half_at(b + 80), dmin = half_at(b + 82);
    int sub = 0;
    for (int half = 0; half < 2; ++half) {
      const std::byte* codes = b + 16 + 32 * half;
      for (int shift = 0; shift < 8; shift += 2)
        for (int part = 0; part < 2; ++part, ++sub, out += 16) {
          const uint8_t s = byte_at(b, sub);
          scaled<16>(d * static_cast<float>(s & 15), dmin * static_cast<float>(s >> 4), out,
                     [&](int l) { return byte_at(codes, 16 * part + l) >> shift & 3; });
        }
    }
  }
}

// 32 bytes of high bits (bit set: nothing is subtracted, else 4), 64 bytes of 2-bit codes as in Q2_K, 12 bytes of 6-bit scales
// around 32: low nibbles in bytes 0-7, high pairs of bits in bytes 8-11; d.
void decode_q3_k(const std::byte* b, int64_t count, float* out) noexcept {
  for (; count > 0; --count, b += 110) {
    const std::byte *high = b, *packed = b + 96;
    const float d = half_at(b + 108);
    int sub = 0;
    for (int half = 0; half < 2; ++half) {
      const std::byte* codes = b + 32 + 32 * half;
      for (int pair = 0; pair < 4; ++pair)
        for (int part = 0; part < 2; ++part, ++sub, out += 16) {
          const int low = sub < 8 ? byte_at(packed, sub) & 15 : byte_at(packed, sub - 8) >> 4;
          const int scale = (low | (byte_at(packed, 8 + sub % 4) >> (2 * (sub / 4)) & 3) << 4) - 32;
          const int bit = 4 * half + pair;
          scaled<16>(d * static_cast<float>(scale), 0, out, [&](int l) {
            const int at = 16 * part + l;
            return (byte_at(codes, at) >> (2 * pair) & 3) - (byte_at(high, at) >> bit & 1 ? 0 : 4);
          });
        }
    }
  }
}

// d, dmin, 12 bytes of scales and offsets, 128 bytes of nibbles: byte l of a group of 32 holds values l and l + 32.
void decode_q4_k(const std::byte* b, int64_t count, float* out) noexcept {
  for (; count > 0; --count, b += 144) {
    const float d = half_at(b), dmin = half_at(b + 2);
    const ScaleMins s = unpack_scale_mins(b + 4);
    for (int group = 0; group < 4; ++group, out += 64) {
      const std::byte* codes = b + 16 + 32 * group;
      const int low = 2 * group, high = low + 1;
      scaled<32>(d * s.scale[low], dmin * s.min[low], out, [&](int l) { return byte_at(codes, l) & 15; });
      scaled<32>(d * s.scale[high], dmin * s.min[high], out + 32, [&](int l) { return byte_at(codes, l) >> 4; });
    }
  }
}

// As Q4_K, with 32 bytes of fifth bits before the nibbles: bit j of byte l belongs to value l of sub-block j.
void decode_q5_k(const std::byte* b, int64_t count, float* out) noexcept {
  for (; count > 0; --count, b += 176) {
    const float d = half_at(b), dmin = half_at(b + 2);
    const ScaleMins s = unpack_scale_mins(b + 4);
    const std::byte* fifth = b + 16;
    for (int group = 0; group < 4; ++group, out += 64) {
      const std::byte* codes = b + 48 + 32 * group;
      const int low = 2 * group, high = low + 1;
      scaled<32>(d * s.scale[low], dmin * s.min[low], out, [&](int l) { return (byte_at(codes, l) & 15) | (byte_at(fifth, l) >> low & 1) << 4; });
      scaled<32>(d * s.scale[high], dmin * s.min[high], out + 32, [&](int l) { return byte_at(codes, l) >> 4 | (byte_at(fifth, l) >> high & 1) << 4; });
    }
  }
}

// 128 bytes of low nibbles, 64 bytes of high pairs of bits, 16 signed scales, d. In a half of 128 values, nibble byte l holds
// values l and l + 64, byte l of the high bits values l, l + 32, l + 64, l + 96. x = d * scale * (code - 32).
void decode_q6_k(const std::byte* b, int64_t count, float* out) noexcept {
  for (; count > 0; --count, b += 210) {
    const float d = half_at(b + 208);
    for (int half = 0; half < 2; ++half) {
      const std::byte *low = b + 64 * half, *high = b + 128 + 32 * half, *scales = b + 192 + 8 * half;
      for (int quarter = 0; quarter < 4; ++quarter)
        for (int part = 0; part < 2; ++part, out += 16) {
          const float scale = d * static_cast<float>(static_cast<int8_t>(byte_at(scales, 2 * quarter + part)));
          const std::byte *nibbles = low + 32 * (quarter % 2) + 16 * part, *pairs = high + 16 * part;
          const int nibble_shift = quarter < 2 ? 0 : 4, pair_shift = 2 * quarter;
          scaled<16>(scale, 0, out, [&](int l) {
            return ((byte_at(nibbles, l) >> nibble_shift & 15) | (byte_at(pairs, l) >> pair_shift & 3) << 4) - 32;
          });
        }
    }
  }
}

}  // namespace switchyard::io
