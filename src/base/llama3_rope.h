// The divisors of rotary frequencies that reach further than a model was trained for, by how often an angle turns in a text of the first
// training: seldom ones are divided by `factor`, frequent ones stay, and between the two it goes smoothly. Source: arXiv:2407.21783.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

namespace switchyard {

struct Llama3Rope {
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4, original_positions = 0;
};

// Of an angle that grows by `frequency` per position.
[[nodiscard]] inline double llama3_divisor(const Llama3Rope& r, double frequency) {
  const double turns = r.original_positions * frequency / (2 * std::numbers::pi);
  if (turns < r.low_freq_factor) return r.factor;
  if (turns > r.high_freq_factor) return 1;
  const double smooth = (turns - r.low_freq_factor) / (r.high_freq_factor - r.low_freq_factor);
  return 1 / ((1 - smooth) / r.factor + smooth);
}

// Of all pairs of a head of which `dims` turn: angles grow by theta^(-2i / dims).
[[nodiscard]] inline std::vector<double> llama3_divisors(const Llama3Rope& r, double theta, int64_t dims) {
  std::vector<double> out;
  for (int64_t i = 0; i < dims / 2; ++i) out.push_back(llama3_divisor(r, std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(dims))));
  return out;
}

}  // namespace switchyard
