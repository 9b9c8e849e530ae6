// Counter-based random numbers: the value at (stream, index) is a pure function, so results do not depend on the number
// of threads, ranks or calls. A stream is named by (seed, step, layer, purpose); the index is the global element.
#pragma once

#include <cstdint>
#include <string_view>

namespace switchyard {

// Key of one stream. Purposes are words such as "jitter" or "dropout".
class RandomStream {
 public:
  explicit RandomStream(uint64_t seed, std::string_view purpose = "");

  // Derived streams: each is independent of its parent and siblings.
  [[nodiscard]] RandomStream at(std::string_view purpose) const;
  [[nodiscard]] RandomStream at(std::string_view purpose, uint64_t number) const;

  [[nodiscard]] uint64_t bits(uint64_t index) const;
  [[nodiscard]] double uniform(uint64_t index) const;         // [0, 1), 53 bits
  [[nodiscard]] double normal(uint64_t index) const;          // N(0, 1), Box-Muller on draws 2i and 2i+1 of the stream
  [[nodiscard]] uint64_t below(uint64_t index, uint64_t n) const;  // {0..n-1}, n > 0

  // out[i] = draw at first + i. `uniform` writes 24-bit values in [0, 1).
  void fill_uniform(float* out, int64_t n, uint64_t first = 0) const;
  void fill_normal(float* out, int64_t n, uint64_t first = 0) const;

 private:
  struct Raw { uint64_t key; };
  explicit RandomStream(Raw raw) : key_(raw.key) {}
  uint64_t key_;
};

}  // namespace switchyard
