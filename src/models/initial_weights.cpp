#include "models/initial_weights.h"

#include "core/untouched_zeros.h"

namespace switchyard {

torch::Tensor normal_weight(const RandomStream* init, std::string_view name, torch::IntArrayRef shape, double std) {
  if (!init) return untouched_zeros(shape);
  auto weight = torch::empty(shape, torch::kFloat32);
  init->at(name).fill_normal(weight.data_ptr<float>(), weight.numel());
  return weight.mul_(std);
}

}  // namespace switchyard
