// Tensors that lie on different devices meet here. Positions, routes, plans and masks are made on the CPU, whatever device computes;
// who uses them takes them to where its data lies. Both do nothing where all is on the CPU.
#pragma once

#include <torch/types.h>

namespace switchyard {

// t on the device of x; an undefined t stays undefined.
[[nodiscard]] inline torch::Tensor beside(const torch::Tensor& x, const torch::Tensor& t) {
  return t.defined() && t.device() != x.device() ? t.to(x.device()) : t;
}

[[nodiscard]] inline torch::Tensor on_cpu(const torch::Tensor& t) { return t.defined() && !t.is_cpu() ? t.to(torch::kCPU) : t; }

}  // namespace switchyard
