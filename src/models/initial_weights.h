// Initial weights as pure functions of a named stream.
#pragma once

#include "switchyard/model_spec.h"
#include "switchyard/random.h"

#include <torch/types.h>

#include <cmath>
#include <string_view>

namespace switchyard {

// N(0, std^2) of the stream `init` / `name`, float32; zeros when `init` is null.
[[nodiscard]] torch::Tensor normal_weight(const RandomStream* init, std::string_view name, torch::IntArrayRef shape, double std);

// Deviation of a matrix that writes to the residual stream.
[[nodiscard]] inline double residual_std(const ModelSpec& spec) { return spec.init_std / std::sqrt(static_cast<double>(spec.num_branches())); }

}  // namespace switchyard
