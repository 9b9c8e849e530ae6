// The squared coefficient of variation, as balance losses use it.
#pragma once

#include <ATen/ATen.h>

namespace switchyard {

// variance / (mean^2 + 1e-10) over all elements of x; 0 for fewer than two.
[[nodiscard]] inline at::Tensor cv_squared(const at::Tensor& x, bool unbiased = false) {
  if (x.numel() < 2) return x.sum() * 0;
  return x.var(unbiased) / (x.mean().square() + 1e-10);
}

}  // namespace switchyard
