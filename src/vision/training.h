// What the tasks train with.
#pragma once

#include "switchyard/random.h"

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace switchyard::vision {

[[nodiscard]] torch::Tensor normal(const RandomStream& stream, std::vector<int64_t> shape, double std = 1);
[[nodiscard]] torch::Tensor uniform(const RandomStream& stream, std::vector<int64_t> shape, double low = 0, double high = 1);
// [count] int64 of 0 .. bound - 1.
[[nodiscard]] torch::Tensor integers(const RandomStream& stream, int64_t count, int64_t bound);
// Rows are orthonormal, [count, d], count <= d.
[[nodiscard]] torch::Tensor orthonormal(const RandomStream& stream, int64_t count, int64_t d);

// logits [B, C], labels [B] int64 -> mean cross-entropy. Throws Error{numeric} when it is not finite.
[[nodiscard]] torch::Tensor cross_entropy(const torch::Tensor& logits, const torch::Tensor& labels);
[[nodiscard]] double accuracy(const torch::Tensor& logits, const torch::Tensor& labels);

// The samples of step `step`: `size` of 0 .. count - 1, drawn with repeats.
[[nodiscard]] torch::Tensor mini_batch(const RandomStream& stream, int64_t step, int64_t count, int64_t size);

void clear_gradients(const std::vector<torch::Tensor>& parameters);

// w <- w - lr (v <- momentum v + g + decay w). Parameters without gradient stay as they are.
class Sgd {
 public:
  struct Options {
    double lr = 0.1, momentum = 0, weight_decay = 0;
  };
  Sgd(std::vector<torch::Tensor> parameters, const Options& options);
  void step(double lr_factor = 1);
  void clear() const { clear_gradients(parameters_); }

 private:
  std::vector<torch::Tensor> parameters_, velocity_;
  Options options_;
};

// The step of the theory paper: each expert's slice weights[m] moves by exactly lr against its gradient, however small that is; a slice
// without gradient stays (arXiv:2208.02813 section 3).
void normalised_step(torch::Tensor weights, double lr);

}  // namespace switchyard::vision
