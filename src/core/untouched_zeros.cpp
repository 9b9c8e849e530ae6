#include "core/untouched_zeros.h"

#include "base/mapped_memory.h"

namespace switchyard {

torch::Tensor untouched_zeros(torch::IntArrayRef shape) {
  int64_t values = 1;
  for (const int64_t size : shape) values *= size;
  const auto memory = mapped_memory(values * static_cast<int64_t>(sizeof(float)));
  return torch::from_blob(memory.get(), shape, [memory](void*) {}, torch::kFloat32);  // the deleter owns it
}

}  // namespace switchyard
