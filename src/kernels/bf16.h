// bfloat16 as bits: the upper half of a float32.
#pragma once

#include <cstdint>
#include <cstring>

namespace switchyard::kernels {

// x rounded to the nearest bfloat16, ties to even. Infinities stay, NaN stays NaN, overflow goes to infinity.
inline float round_to_bf16(float x) noexcept {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (x != x)
    bits |= 0x00400000u;  // keep NaN when its payload is cut off
  else
    bits += 0x7fffu + (bits >> 16 & 1u);
  bits &= 0xffff0000u;
  std::memcpy(&x, &bits, 4);
  return x;
}

}  // namespace switchyard::kernels
