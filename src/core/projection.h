// A linear map with or without a bias: x [..., k] -> x weight^T + bias [..., n].
#pragma once

#include "core/ops.h"

namespace switchyard {

struct Projection {
  torch::Tensor weight, bias;  // [n, k]; [n], or undefined

  torch::Tensor operator()(const torch::Tensor& x) const {
    const auto y = ops::linear(x, weight);
    return bias.defined() ? y + bias : y;
  }
};

}  // namespace switchyard
