// A buffer that only grows: scratch memory of kernels, so that a repeated call allocates nothing.
#pragma once

#include <cstddef>

namespace switchyard::kernels {

class GemmScratch {
 public:
  GemmScratch() = default;
  ~GemmScratch();
  GemmScratch(const GemmScratch&) = delete;
  GemmScratch& operator=(const GemmScratch&) = delete;

  // At least `bytes` bytes, 64-byte aligned; earlier contents are lost when it grows. Throws std::bad_alloc.
  [[nodiscard]] char* reserve(size_t bytes);

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace switchyard::kernels
