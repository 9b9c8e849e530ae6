// Gradients of large tables are sparse: rows that were read (core/table_ops.h).
#pragma once

#include <torch/types.h>

namespace switchyard {

// The numbers of a gradient, contiguous: all of a dense one, the rows [R, ...] of a sparse one.
[[nodiscard]] inline torch::Tensor gradient_values(const torch::Tensor& gradient) {
  return gradient.is_sparse() ? gradient.coalesce().values().contiguous() : gradient.contiguous();
}

}  // namespace switchyard
