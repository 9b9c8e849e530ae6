// splitmix64 finaliser (Steele, Lea, Flood, 2014, doi:10.1145/2714064.2660195) applied twice to key + counter * odd constant.
// fill_uniform and fill_normal are in kernels/random_fill.cpp.
#include "switchyard/random.h"

#include <cmath>

namespace switchyard {
namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ull;

constexpr uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

uint64_t hash_word(std::string_view word) {
  uint64_t h = 0xCBF29CE484222325ull;  // FNV-1a
  for (const char c : word) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return mix(h);
}

}  // namespace

RandomStream::RandomStream(uint64_t seed, std::string_view purpose) : key_(mix(mix(seed + kGolden) ^ hash_word(purpose))) {}

RandomStream RandomStream::at(std::string_view purpose) const { return RandomStream(Raw{mix(key_ ^ hash_word(purpose))}); }

RandomStream RandomStream::at(std::string_view purpose, uint64_t number) const {
  return RandomStream(Raw{mix(mix(key_ ^ hash_word(purpose)) + (number + 1) * kGolden)});
}

uint64_t RandomStream::bits(uint64_t index) const { return mix(mix(key_ + index * kGolden) + kGolden); }

double RandomStream::uniform(uint64_t index) const { return static_cast<double>(bits(index) >> 11) * 0x1p-53; }

double RandomStream::normal(uint64_t index) const {
  const double u = (static_cast<double>(bits(2 * index) >> 11) + 0.5) * 0x1p-53;
  const double v = uniform(2 * index + 1);
  return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v);
}

uint64_t RandomStream::below(uint64_t index, uint64_t n) const {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(bits(index)) * n) >> 64);
}

}  // namespace switchyard
