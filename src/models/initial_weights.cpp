#include "models/initial_weights.h"

#include <cstdint>
#include <cstdlib>
#include <new>

namespace switchyard {
namespace {

// Zeros whose pages exist only once they are written: a model that is built to look at its shapes, or to be filled from a file,
// costs no memory before.
torch::Tensor untouched_zeros(torch::IntArrayRef shape) {
  constexpr uintptr_t kAlignment = 64;  // as libtorch's own allocator
  int64_t values = 1;
  for (const int64_t size : shape) values *= size;
  void* block = std::calloc(static_cast<size_t>(values) * sizeof(float) + kAlignment, 1);
  if (!block) throw std::bad_alloc();
  const uintptr_t aligned = (reinterpret_cast<uintptr_t>(block) + kAlignment - 1) / kAlignment * kAlignment;
  return torch::from_blob(reinterpret_cast<void*>(aligned), shape, [block](void*) { std::free(block); }, torch::kFloat32);
}

}  // namespace

torch::Tensor normal_weight(const RandomStream* init, std::string_view name, torch::IntArrayRef shape, double std) {
  if (!init) return untouched_zeros(shape);
  auto weight = torch::empty(shape, torch::kFloat32);
  init->at(name).fill_normal(weight.data_ptr<float>(), weight.numel());
  return weight.mul_(std);
}

}  // namespace switchyard
