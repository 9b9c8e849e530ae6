// The theory model: experts are two-layer CNNs over patches with the activation z^3, a linear router sends each sample to one of them.
//
//   f_m(x)_c = sum over filters j of class c and patches p of sigma(w_m,j . x^(p))        sigma(z) = z^3, or z as the linear control
//   h_m(x) = sum_p theta_m . x^(p)        m* = argmax_m (h_m + r_m), r ~ U[0, 1] in training        F(x) = softmax(h)_m* f_m*(x)
//
// theta begins at 0, so that noise alone routes at first; filters begin at 1e-3 of their usual size. Experts take steps of equal length
// (training.h, normalised_step), the router plain SGD. Source: arXiv:2208.02813 sections 2 and 3.
#pragma once

#include "switchyard/random.h"

#include <torch/nn/module.h>

namespace switchyard::vision {

class CubicMixture final : public torch::nn::Module {
 public:
  struct Options {
    int64_t experts = 8, filters = 8;  // per class
    bool linear = false;
    double init_factor = 1e-3;
  };

  CubicMixture(const Options& options, int64_t d, uint64_t seed);

  struct Output {
    torch::Tensor scores;  // [B, 2]
    torch::Tensor choice;  // [B] int64
    torch::Tensor probs;   // [B, M]: softmax(h), without noise
  };
  // x [B, P, d]; noise [B, M], undefined in evaluation.
  [[nodiscard]] Output forward(const torch::Tensor& x, const torch::Tensor& noise = {});
  // f_m of every row, [B, 2].
  [[nodiscard]] torch::Tensor expert(int64_t m, const torch::Tensor& x) const;

  [[nodiscard]] torch::Tensor& filters() { return filters_; }
  [[nodiscard]] torch::Tensor& router() { return router_; }
  [[nodiscard]] int64_t experts() const { return filters_.size(0); }

 private:
  bool linear_;
  torch::Tensor filters_, router_;  // [M, 2 J, d]: those of class 0, then of class 1; [M, d]
};

}  // namespace switchyard::vision
