#include "data/fingerprint.h"

#include "switchyard/random.h"

#include <algorithm>
#include <cstring>

namespace switchyard::data {

Fingerprint& Fingerprint::add(uint64_t number) {
  // One bijection of the state per word: different words give different states.
  state_ = (state_ ^ number) * 0x9E3779B97F4A7C15ull + 0xD1B54A32D192ED03ull;
  state_ ^= state_ >> 29;
  return *this;
}

Fingerprint& Fingerprint::add(std::string_view bytes) {
  add(static_cast<uint64_t>(bytes.size()));
  while (!bytes.empty()) {
    uint64_t word = 0;
    const size_t count = std::min(bytes.size(), sizeof word);
    std::memcpy(&word, bytes.data(), count);
    add(word);
    bytes.remove_prefix(count);
  }
  return *this;
}

uint64_t Fingerprint::value() const { return RandomStream(state_, "fingerprint").bits(0); }

}  // namespace switchyard::data
