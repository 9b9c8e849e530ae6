#include "core/untouched_zeros.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <new>

namespace switchyard {

// Pages from the system, not from the allocator, which may keep what is freed (base/memory.h): a matrix that is packed gives
// its memory back.
torch::Tensor untouched_zeros(torch::IntArrayRef shape) {
  size_t bytes = sizeof(float);
  for (const int64_t size : shape) bytes *= static_cast<size_t>(size);
  bytes = std::max<size_t>(bytes, 1);
  void* block = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  return torch::from_blob(block, shape, [block, bytes](void*) { ::munmap(block, bytes); }, torch::kFloat32);
}

}  // namespace switchyard
