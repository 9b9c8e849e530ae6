// Floats of 8 and 4 bits: E4M3 and E5M2 (arXiv:2209.05433), E2M1 and the power of two E8M0 (OCP Microscaling Formats 1.0).
#pragma once

#include <array>
#include <cstdint>

namespace switchyard::io {

// E4M3 has no infinity: only S.1111.111 is NaN, the largest value is 448. E5M2 is like IEEE: largest value 57344.
[[nodiscard]] float f8_e4m3_to_float32(uint8_t code) noexcept;
[[nodiscard]] float f8_e5m2_to_float32(uint8_t code) noexcept;

// Nearest, ties to even; beyond the largest value: the largest value (saturation); NaN stays NaN.
[[nodiscard]] uint8_t float32_to_f8_e4m3(float value) noexcept;
[[nodiscard]] uint8_t float32_to_f8_e5m2(float value) noexcept;

// The 16 values of E2M1, sign in the highest bit.
inline constexpr std::array<float, 16> kE2m1{0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F, -0.0F, -0.5F, -1.0F, -1.5F, -2.0F, -3.0F, -4.0F, -6.0F};
[[nodiscard]] uint8_t double_to_e2m1(double value) noexcept;  // nearest, ties to the even code; saturates at 6

// 2^(code - 127); 255 is NaN.
[[nodiscard]] float e8m0_to_float32(uint8_t code) noexcept;
[[nodiscard]] double e8m0_to_double(uint8_t code) noexcept;

}  // namespace switchyard::io
