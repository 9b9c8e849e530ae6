#include "models/rotary.h"

#include <cmath>

namespace switchyard {

RotaryTable::RotaryTable(int64_t max_positions, int64_t head_dim, double theta) {
  const int64_t half = head_dim / 2;
  cos = torch::empty({max_positions, half}, torch::kFloat32);
  sin = torch::empty_like(cos);
  float* const c = cos.data_ptr<float>();
  float* const s = sin.data_ptr<float>();
  for (int64_t i = 0; i < half; ++i) {
    // Angles in float32, as published checkpoints were trained; their sine and cosine are exact to float32.
    const auto frequency = static_cast<float>(std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
    for (int64_t p = 0; p < max_positions; ++p) {
      const double angle = static_cast<float>(p) * frequency;
      c[p * half + i] = static_cast<float>(std::cos(angle));
      s[p * half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace switchyard
