// A buffer that only grows: scratch memory of kernels, so that a repeated call allocates nothing.
#pragma once

#include <cstddef>

namespace switchyard::kernels {

class Scratch {
 public:
  Scratch() = default;
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // At least `bytes` bytes, 64-byte aligned; earlier contents are lost when it grows. Throws std::bad_alloc.
  [[nodiscard]] char* reserve(size_t bytes);

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace switchyard::kernels
