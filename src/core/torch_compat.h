// The only file that knows which libtorch it compiles against: Debian's 1.13 up to current 2.x.
#pragma once

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>
#include <torch/version.h>

#if TORCH_VERSION_MAJOR < 1 || (TORCH_VERSION_MAJOR == 1 && TORCH_VERSION_MINOR < 13)
#error "switchyard needs libtorch 1.13 or newer"
#endif

namespace switchyard {

// For float32 tensors our kernels run; everything else takes the ATen reference path.
inline bool on_kernels(const torch::Tensor& x) { return x.scalar_type() == torch::kFloat32 && x.device().is_cpu(); }

// An optional argument that the autograd engine hands to backward may be undefined: a gradient of zeros.
inline torch::Tensor or_zeros(const torch::Tensor& gradient, const torch::Tensor& like) {
  return gradient.defined() ? gradient : torch::zeros_like(like);
}

}  // namespace switchyard
