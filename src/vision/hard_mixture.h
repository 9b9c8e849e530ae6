// Hard mixture of experts over the features of a trained trunk: k-means decides, each sample belongs to its nearest centroid, and the
// expert of that centroid alone is trained on it and asked about it. No gradient passes the decision, so that experts can be trained
// apart from each other. Source: Gross, Ranzato, Szlam, arXiv:1704.06363.
#pragma once

#include "switchyard/random.h"

#include <torch/nn/module.h>

#include <cstdint>

namespace switchyard::vision {

// Features to mean 0 and covariance 1: (x - mean) W.
struct Whitening {
  torch::Tensor mean, map;  // [d], [d, d]
  [[nodiscard]] torch::Tensor apply(const torch::Tensor& x) const;
};
[[nodiscard]] Whitening whitening_of(const torch::Tensor& x, double eps = 1e-3);

// [n] int64: the nearest row of centroids [K, d] by Euclidean distance, equal ones the lower.
[[nodiscard]] torch::Tensor nearest(const torch::Tensor& x, const torch::Tensor& centroids);

// Lloyd's rounds from random samples; a cluster that loses all its samples begins again at the sample that is farthest from its own
// centroid. [K, d]. Throws Error{config} for more clusters than samples.
[[nodiscard]] torch::Tensor k_means(const torch::Tensor& x, int64_t clusters, const RandomStream& random, int64_t rounds = 25);

class HardMixture final : public torch::nn::Module {
 public:
  // Linear heads over features [n, d], one per centroid, each a copy of `head` [C, d] and `bias` [C].
  HardMixture(Whitening whitening, torch::Tensor centroids, const torch::Tensor& head, const torch::Tensor& bias);

  [[nodiscard]] torch::Tensor expert_of(const torch::Tensor& features) const;
  // The logits of each sample's own expert, [n, C].
  [[nodiscard]] torch::Tensor forward(const torch::Tensor& features) const;

  // Gradient descent of one head on the samples that are its own; leaves all others as they are. Does nothing for a cluster without samples.
  void train_expert(int64_t expert, const torch::Tensor& features, const torch::Tensor& labels, int64_t steps, double lr);
  [[nodiscard]] int64_t experts() const { return heads_.size(0); }

 private:
  Whitening whitening_;
  torch::Tensor centroids_, heads_, biases_;  // [K, d], [K, C, d], [K, C]
};

}  // namespace switchyard::vision
