// A pseudo-random order of 0..size-1 without a table: position -> element is a pure function of (stream, size), so that
// any place of an epoch can be reached directly and every machine walks the same order.
//
// A balanced Feistel network over the next even number of bits (a bijection for any round function: Luby and Rackoff, 1988,
// doi:10.1137/0217022), applied again while the result lies outside 0..size-1 ("cycle walking": Black and Rogaway, 2002,
// doi:10.1007/3-540-45760-7_9). At most four applications on average.
#pragma once

#include "switchyard/random.h"

#include <cstdint>

namespace switchyard::data {

class Permutation {
 public:
  // `size` > 0.
  Permutation(RandomStream stream, uint64_t size);

  // The element at `position` < size.
  [[nodiscard]] uint64_t operator()(uint64_t position) const;

 private:
  [[nodiscard]] uint64_t encrypt(uint64_t value) const;

  RandomStream stream_;
  uint64_t size_;
  int half_bits_;
};

}  // namespace switchyard::data
