// A small network that stands in for the loss of a language model where routers learn:
//
//   SM(r) = level + w_2 . gelu(W_1 r + b_1)
//
// r holds the routes of a text, the choices of all layers side by side. `level` follows the mean loss, which falls
// as the model learns, so that the network has to explain differences between routes alone.
// Source: Flextron, arXiv:2406.10260 section 3.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <cstdint>

namespace switchyard {

class Surrogate final : public torch::nn::Module {
 public:
  Surrogate(int64_t inputs, int64_t hidden, uint64_t seed);

  // routes [n, inputs] -> predicted losses [n], in nats per token.
  [[nodiscard]] torch::Tensor forward(const torch::Tensor& routes) const;
  // One more mean loss that was seen: `level` becomes the first one, later it moves a tenth of the way.
  void follow(double mean_loss);

 private:
  torch::Tensor inner_, bias_, outer_;  // [h, inputs], [h], [1, h]
  torch::Tensor level_;                 // [1]; NaN before anything was seen
};

}  // namespace switchyard
