#include "kernels/rope.h"

#include <cmath>

#include "kernels/per_isa.h"

namespace switchyard::kernels {

SW_PER_ISA(void, rope_rotate_int64, (const RopeShape&, HeadRows<float>, const int64_t*, const float*, const float*, bool))
SW_PER_ISA(void, rope_rotate_int32, (const RopeShape&, HeadRows<float>, const int32_t*, const float*, const float*, bool))

void rope_table(int64_t max_positions, int64_t rotary_dim, double theta, float* cos, float* sin) {
  const int64_t half = rotary_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
    for (int64_t p = 0; p < max_positions; ++p) {
      const double angle = static_cast<double>(p) * frequency;
      cos[p * half + i] = static_cast<float>(std::cos(angle));
      sin[p * half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

void rope_rotate(const RopeShape& shape, HeadRows<float> x, const int64_t* positions, const float* cos, const float* sin,
                 bool inverse) {
  SW_BEST_VARIANT(rope_rotate_int64)(shape, x, positions, cos, sin, inverse);
}

void rope_rotate(const RopeShape& shape, HeadRows<float> x, const int32_t* positions, const float* cos, const float* sin,
                 bool inverse) {
  SW_BEST_VARIANT(rope_rotate_int32)(shape, x, positions, cos, sin, inverse);
}

}  // namespace switchyard::kernels
