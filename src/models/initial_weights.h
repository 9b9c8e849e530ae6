// Initial weights as pure functions of a named stream.
#pragma once

#include "switchyard/random.h"

#include <torch/types.h>

#include <string_view>

namespace switchyard {

// N(0, std^2) of the stream `init` / `name`, float32; zeros when `init` is null.
[[nodiscard]] torch::Tensor normal_weight(const RandomStream* init, std::string_view name, torch::IntArrayRef shape, double std);

}  // namespace switchyard
