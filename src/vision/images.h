// Small pictures of a few classes, and attacks on who classifies them.
#pragma once

#include "switchyard/random.h"

#include <torch/types.h>

#include <cstdint>
#include <functional>

namespace switchyard::vision {

struct Pictures {
  torch::Tensor x;       // [n, 1, size, size] in [0, 1]
  torch::Tensor labels;  // [n] int64
};

// Each class is a smooth random picture; a sample is it, moved by up to two pixels (around the edge), in its own contrast, with noise.
class PictureClasses {
 public:
  explicit PictureClasses(uint64_t seed, int64_t classes = 4, int64_t size = 16, double noise = 0.15);
  [[nodiscard]] Pictures draw(const char* part, int64_t n) const;
  [[nodiscard]] int64_t classes() const { return templates_.size(0); }

 private:
  RandomStream stream_;
  double noise_;
  torch::Tensor templates_;  // [C, size, size] in [0, 1]
};

// Projected gradient ascent of `loss` within epsilon of x in every pixel, and within [0, 1] (arXiv:1706.06083).
struct Attack {
  double epsilon = 8.0 / 255, step = 5.0 / 255, start_noise = 1e-3;
  int64_t steps = 2;
};
[[nodiscard]] torch::Tensor attacked(const torch::Tensor& x, const Attack& attack, const RandomStream& random, const std::function<torch::Tensor(const torch::Tensor&)>& loss);

// Mean over samples of KL(softmax(p) || softmax(q)), logits [B, C].
[[nodiscard]] torch::Tensor divergence(const torch::Tensor& p, const torch::Tensor& q);

}  // namespace switchyard::vision
