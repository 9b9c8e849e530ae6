// A SwiGLU MoE layer as a libtorch user writes it: tokens sorted by expert, one pair of products per expert that has some, rows
// added back. The alternative that benchmarks compare with.
#pragma once

#include "bench/layer_shapes.h"
#include "switchyard/moe.h"

namespace switchyard::bench {

class TorchLayer {
 public:
  // The layer's float32 weights as `dtype` (float32: the same memory), one tensor per expert and matrix (selecting from one stacked
  // parameter would make a gradient of the whole stack per expert).
  TorchLayer(MoELayer& layer, torch::ScalarType dtype, bool with_gradient);

  // tokens [T, d] float32 -> [T, d] float32. Sums over experts are float32.
  [[nodiscard]] torch::Tensor forward(const torch::Tensor& tokens, const TokenChoice& choice) const;
  [[nodiscard]] torch::ScalarType dtype() const { return dtype_; }
  // Weights, in the order in which they were made.
  [[nodiscard]] std::vector<torch::Tensor> parameters() const;

 private:
  struct Expert {
    torch::Tensor in, out;  // [2f, d], [d, f]
  };
  [[nodiscard]] torch::Tensor run(const Expert& expert, const torch::Tensor& rows) const;

  torch::ScalarType dtype_;
  std::vector<Expert> experts_, shared_;
};

}  // namespace switchyard::bench
