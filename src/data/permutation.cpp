#include "data/permutation.h"

#include <bit>

namespace switchyard::data {
namespace {

constexpr uint64_t kRounds = 6;

}  // namespace

Permutation::Permutation(RandomStream stream, uint64_t size)
    : stream_(stream), size_(size), half_bits_((std::bit_width(size - 1) + 1) / 2) {}

uint64_t Permutation::operator()(uint64_t position) const {
  if (size_ == 1) return 0;
  uint64_t value = position;
  do value = encrypt(value);
  while (value >= size_);
  return value;
}

uint64_t Permutation::encrypt(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_, right = value & mask;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t mixed = left ^ (stream_.bits(round << 32 | right) & mask);
    left = right;
    right = mixed;
  }
  return left << half_bits_ | right;
}

}  // namespace switchyard::data
