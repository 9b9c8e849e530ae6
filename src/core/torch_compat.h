// The only file that knows which libtorch it compiles against: Debian's 1.13 up to current 2.x.
#pragma once

#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>
#include <torch/version.h>

#if TORCH_VERSION_MAJOR < 1 || (TORCH_VERSION_MAJOR == 1 && TORCH_VERSION_MINOR < 13)
#error "switchyard needs libtorch 1.13 or newer"
#endif

namespace switchyard {

// While it lives, this thread computes in ATen operations alone: the alternative of benchmarks and the oracle of tests.
class ReferenceScope {
 public:
  ReferenceScope() { ++depth(); }
  ~ReferenceScope() { --depth(); }
  ReferenceScope(const ReferenceScope&) = delete;
  ReferenceScope& operator=(const ReferenceScope&) = delete;
  static int& depth() {
    thread_local int scopes = 0;
    return scopes;
  }
};

// For float32 tensors our kernels run; everything else takes the ATen reference path.
inline bool on_kernels(const torch::Tensor& x) {
  return x.scalar_type() == torch::kFloat32 && x.device().is_cpu() && ReferenceScope::depth() == 0;
}

// An optional argument that the autograd engine hands to backward may be undefined: a gradient of zeros.
inline torch::Tensor or_zeros(const torch::Tensor& gradient, const torch::Tensor& like) {
  return gradient.defined() ? gradient : torch::zeros_like(like);
}

}  // namespace switchyard
