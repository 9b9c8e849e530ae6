// Parameters whose values lie packed for the kernels (kernels/packed): a model that only computes forward keeps its large
// matrices in bfloat16, int8 or int4, and reads each of them once per token.
#pragma once

#include "kernels/packed/weights.h"
#include "switchyard/packable.h"

#include <torch/types.h>

#include <memory>

namespace switchyard {

using kernels::packed::PackedWeights;
using kernels::packed::WeightFormat;

// Packs the values and gives their memory back. From then on ops::linear and ops::grouped_linear find the packed form in the
// parameter's place, without gradient; whoever else reads the parameter reads NaN. Throws Error{internal} for other shapes, views and
// dtypes, and for a parameter that is packed.
void pack_parameter(const Packable& part, WeightFormat format);

// A tensor of this shape that stands for packed weights, which may have no plain form at all.
[[nodiscard]] torch::Tensor stand_in(std::shared_ptr<const PackedWeights> weights, torch::IntArrayRef shape);
// The same for a matrix [n, k] that stays as it is beside it (an output layer that shares the embedding).
[[nodiscard]] torch::Tensor packed_copy(const torch::Tensor& matrix, WeightFormat format);

// The packed form of a parameter; null if it is plain. Costs a few nanoseconds where nothing is packed.
[[nodiscard]] const PackedWeights* packed_form(const torch::Tensor& parameter);

}  // namespace switchyard
