// Batch normalisation of the channels of a picture: y = (x - mean) / sqrt(var + eps) * weight + bias. In training mean and variance are those
// of the batch, over samples and places, and running ones follow them; outside training the running ones are used, so that a picture's
// result depends on no other. Source: arXiv:1502.03167.
#pragma once

#include <torch/nn/module.h>

namespace switchyard::vision {

class BatchNorm final : public torch::nn::Module {
 public:
  explicit BatchNorm(int64_t channels);
  // x [B, C, H, W].
  [[nodiscard]] torch::Tensor forward(const torch::Tensor& x) const;
  // Outside training, for x that holds the channels `live` [n] int64 alone.
  [[nodiscard]] torch::Tensor forward_live(const torch::Tensor& x, const torch::Tensor& live) const;

 private:
  torch::Tensor weight_, bias_, running_mean_, running_var_;  // [C]
};

}  // namespace switchyard::vision
