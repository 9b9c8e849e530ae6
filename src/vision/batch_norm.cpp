#include "vision/batch_norm.h"

#include <ATen/ATen.h>

namespace switchyard::vision {
namespace {

constexpr double kEps = 1e-5, kMomentum = 0.1;

}  // namespace

BatchNorm::BatchNorm(int64_t channels) {
  weight_ = register_parameter("weight", torch::ones({channels}));
  bias_ = register_parameter("bias", torch::zeros({channels}));
  running_mean_ = register_buffer("running_mean", torch::zeros({channels}));
  running_var_ = register_buffer("running_var", torch::ones({channels}));
}

torch::Tensor BatchNorm::forward(const torch::Tensor& x) const {
  return at::batch_norm(x, weight_, bias_, running_mean_, running_var_, is_training(), kMomentum, kEps, /*cudnn_enabled=*/false);
}

torch::Tensor BatchNorm::forward_live(const torch::Tensor& x, const torch::Tensor& live) const {
  const auto part = [&](const torch::Tensor& t) { return t.index_select(0, live); };
  return at::batch_norm(x, part(weight_), part(bias_), part(running_mean_), part(running_var_), /*training=*/false, kMomentum, kEps, /*cudnn_enabled=*/false);
}

}  // namespace switchyard::vision
