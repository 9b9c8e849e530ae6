#include "core/untouched_zeros.h"
#include "switchyard/mixer.h"

namespace switchyard {

torch::Tensor append(const torch::Tensor& room, int64_t length, const torch::Tensor& fresh) {
  room.narrow(1, length, fresh.size(1)).copy_(fresh);
  return room.narrow(1, 0, length + fresh.size(1));
}

torch::Tensor MixerShape::constant(torch::IntArrayRef shape, double value) const {
  if (sizes_only) return torch::empty(shape, torch::TensorOptions().dtype(torch::kFloat32).device(torch::kMeta));
  return torch::full(shape, value, torch::kFloat32);
}

torch::Tensor MixerShape::weight(std::string_view name, torch::IntArrayRef shape, double std) const {
  if (sizes_only) return constant(shape, 0);
  if (!seed) return untouched_zeros(shape);
  auto out = torch::empty(shape, torch::kFloat32);
  RandomStream(*seed, "init").at("layer", static_cast<uint64_t>(layer)).at(name).fill_normal(out.data_ptr<float>(), out.numel());
  return out.mul_(std);
}

int64_t Mixer::num_parameters() const {
  int64_t out = 0;
  for (const auto& p : parameters()) out += p.numel();
  return out;
}

}  // namespace switchyard
