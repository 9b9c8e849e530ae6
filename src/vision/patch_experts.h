// pMoE: convolutional experts that each keep their own l of the n patches of a sample and look at no other.
//
//   g_j,s = w_s . x^(j)        J_s = the l patches with the largest g_s        G = softmax over J_s of g_s
//   f(x) = sum_s sum_r a_r,s (1 / l) sum_{j in J_s} relu(w_r,s . x^(j)) G_j,s        a = +-1, fixed
//
// The other public order, of the WideResNet code, is softmax over all patches first and then the l largest: `softmax_first`. With
// l = n both are a plain CNN over softmax-weighted patches. Equal gates go to the earlier patch. Source: arXiv:2306.04073 section 3.
#pragma once

#include "switchyard/random.h"

#include <torch/nn/module.h>

namespace switchyard::vision {

class PatchExperts final : public torch::nn::Module {
 public:
  struct Options {
    int64_t experts = 4, filters = 8;  // per expert, half of them with a = +1
    int64_t keep = 2;                  // l
    bool softmax_first = false;
    bool routed = true;                // false: every expert sees all patches with weight 1, the CNN to compare with
    double filter_std = 0.1, gate_std = 1e-4;
  };

  PatchExperts(const Options& options, int64_t patches, int64_t d, uint64_t seed);

  struct Routing {
    torch::Tensor kept;     // [B, S, l] int64
    torch::Tensor weights;  // [B, S, l]
  };
  [[nodiscard]] Routing route(const torch::Tensor& x) const;
  // x [B, n, d] -> f(x) [B]: above 0 is label 1.
  [[nodiscard]] torch::Tensor forward(const torch::Tensor& x) const;

  // Separate training: gates from the labels alone. One step of size `lr` on -(1 / N) sum y <w_s - w_s', sum_j x^(j)>, the first half of the
  // experts for label 1, the second half for label 0.
  void train_gates(const torch::Tensor& x, const torch::Tensor& labels, double lr);

  [[nodiscard]] torch::Tensor& gates() { return gates_; }
  [[nodiscard]] torch::Tensor& filters() { return filters_; }
  [[nodiscard]] double flops_per_sample() const;  // of the filters: proportional to l / n

 private:
  Options options_;
  int64_t patches_;
  torch::Tensor gates_, filters_;  // [S, d], [S, R, d]
  torch::Tensor signs_;            // [R]
};

}  // namespace switchyard::vision
