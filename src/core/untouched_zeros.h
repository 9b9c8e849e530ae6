// Zeros that cost no memory before they are written.
#pragma once

#include <torch/types.h>

namespace switchyard {

// float32 zeros whose pages exist only once they are written: a model that is built to look at its shapes, or to be filled from a
// file, costs nothing before. Throws std::bad_alloc.
[[nodiscard]] torch::Tensor untouched_zeros(torch::IntArrayRef shape);

}  // namespace switchyard
