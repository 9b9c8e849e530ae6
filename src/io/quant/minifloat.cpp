#include "io/quant/minifloat.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace switchyard::io {
namespace {

struct F8Format {
  int fraction_bits, bias;
  uint8_t largest;  // code of the largest finite value
};
constexpr F8Format kE4m3{3, 7, 0x7E}, kE5m2{2, 15, 0x7B};

float decode(const F8Format& f, uint8_t code) {
  const int magnitude = code & 0x7F, exponent = magnitude >> f.fraction_bits, fraction = magnitude & ((1 << f.fraction_bits) - 1);
  float value = exponent == 0 ? std::ldexp(static_cast<float>(fraction), 1 - f.bias - f.fraction_bits)
                              : std::ldexp(static_cast<float>(fraction + (1 << f.fraction_bits)), exponent - f.bias - f.fraction_bits);
  if (magnitude > f.largest) {
    const bool infinite = f.fraction_bits == 2 && fraction == 0;
    value = infinite ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  }
  return code & 0x80 ? -value : value;
}

std::array<float, 256> table(const F8Format& f) {
  std::array<float, 256> out{};
  for (int code = 0; code < 256; ++code) out[static_cast<size_t>(code)] = decode(f, static_cast<uint8_t>(code));
  return out;
}

// Positive codes are in the order of their values: the number of units of the last place of the binade is the answer.
uint8_t encode(const F8Format& f, float value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | 0x7F;
  int exponent = 0;
  const double magnitude = std::abs(static_cast<double>(value));
  if (std::isinf(value)) return sign | f.largest;
  if (magnitude == 0) return sign;
  std::frexp(magnitude, &exponent);                          // magnitude in [1/2, 1) * 2^exponent
  const int biased = std::max(exponent - 1 + f.bias, 1);     // of the binade; 1 also holds the subnormals
  const double units = std::nearbyint(std::ldexp(magnitude, f.bias + f.fraction_bits - biased));  // to even
  const double code = units + static_cast<double>((biased - 1) << f.fraction_bits);
  return static_cast<uint8_t>(sign | static_cast<uint8_t>(std::min(code, static_cast<double>(f.largest))));
}

}  // namespace

float f8_e4m3_to_float32(uint8_t code) noexcept {
  static const auto values = table(kE4m3);
  return values[code];
}

float f8_e5m2_to_float32(uint8_t code) noexcept {
  static const auto values = table(kE5m2);
  return values[code];
}

uint8_t float32_to_f8_e4m3(float value) noexcept { return encode(kE4m3, value); }
uint8_t float32_to_f8_e5m2(float value) noexcept { return encode(kE5m2, value); }

uint8_t double_to_e2m1(double value) noexcept {
  const double magnitude = std::abs(value);
  // Between codes c and c + 1 the border belongs to the even one.
  constexpr std::array<double, 7> borders{0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0};
  int code = 0;
  for (int c = 0; c < 7; ++c) {
    const double border = borders[static_cast<size_t>(c)];
    if (magnitude > border || (magnitude == border && c % 2 == 1)) code = c + 1;
  }
  return static_cast<uint8_t>(code | (std::signbit(value) ? 8 : 0));
}

double e8m0_to_double(uint8_t code) noexcept { return code == 255 ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1.0, code - 127); }
float e8m0_to_float32(uint8_t code) noexcept { return static_cast<float>(e8m0_to_double(code)); }

}  // namespace switchyard::io
