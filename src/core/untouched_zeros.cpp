#include "core/untouched_zeros.h"

#include <cstdint>
#include <cstdlib>
#include <new>

namespace switchyard {

torch::Tensor untouched_zeros(torch::IntArrayRef shape) {
  constexpr uintptr_t kAlignment = 64;  // as libtorch's own allocator
  int64_t values = 1;
  for (const int64_t size : shape) values *= size;
  void* block = std::calloc(static_cast<size_t>(values) * sizeof(float) + kAlignment, 1);
  if (!block) throw std::bad_alloc();
  const uintptr_t aligned = (reinterpret_cast<uintptr_t>(block) + kAlignment - 1) / kAlignment * kAlignment;
  return torch::from_blob(reinterpret_cast<void*>(aligned), shape, [block](void*) { std::free(block); }, torch::kFloat32);
}

}  // namespace switchyard
