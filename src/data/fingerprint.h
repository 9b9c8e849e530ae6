// A 64-bit digest that tells whether inputs have changed. The same on every machine; no protection against somebody who
// wants a collision.
#pragma once

#include <cstdint>
#include <string_view>

namespace switchyard::data {

class Fingerprint {
 public:
  // Order and borders count: add("ab").add("c") differs from add("a").add("bc").
  Fingerprint& add(std::string_view bytes);
  Fingerprint& add(uint64_t number);
  [[nodiscard]] uint64_t value() const;

 private:
  uint64_t state_ = 0;
};

}  // namespace switchyard::data
