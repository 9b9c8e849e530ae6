// Data sets of patches: each sample is P vectors of width d.
#pragma once

#include "switchyard/random.h"

#include <torch/types.h>

#include <cstdint>

namespace switchyard::vision {

struct PatchSamples {
  torch::Tensor x;        // [n, P, d]
  torch::Tensor labels;   // [n] int64, 0 or 1
  torch::Tensor cluster;  // [n] int64
};

// The mixture of clusters on which one network fails (arXiv:2208.02813, definition 3.1, setting 1). Cluster k has a centre c_k and a
// feature v_k, all orthonormal. The four patches of a sample with y = +-1, in random order:
//
//   alpha y v_k      beta c_k      gamma e v_k', k' != k, e = +-1      noise N(0, I / d)
//
// alpha ~ U(0.5, 2), beta ~ U(1, 2), gamma ~ U(0.5, 3). The third misleads a network that does not know the cluster.
class ClusterPatches {
 public:
  explicit ClusterPatches(uint64_t seed, int64_t clusters = 4, int64_t d = 50);
  // `part` names disjoint sets: "train", "test".
  [[nodiscard]] PatchSamples draw(const char* part, int64_t n) const;
  [[nodiscard]] int64_t clusters() const { return centres_.size(0); }
  [[nodiscard]] int64_t width() const { return centres_.size(1); }
  static constexpr int64_t kPatches = 4;

 private:
  RandomStream stream_;
  torch::Tensor centres_, features_;  // [K, d]
};

// One telling patch among many: label 0 or 1 has the pattern o_0 or o_1 at a random place, the others are patterns from a set that says
// nothing of the label, and all have noise (after arXiv:2306.04073 section 4.1).
class OnePatch {
 public:
  explicit OnePatch(uint64_t seed, int64_t patches = 16, int64_t d = 24, int64_t irrelevant = 12, double noise = 0.1);
  [[nodiscard]] PatchSamples draw(const char* part, int64_t n) const;  // cluster: the place of the telling patch
  [[nodiscard]] int64_t patches() const { return patches_; }
  [[nodiscard]] int64_t width() const { return patterns_.size(1); }

 private:
  RandomStream stream_;
  int64_t patches_;
  double noise_;
  torch::Tensor patterns_;  // [2 + irrelevant, d]
};

}  // namespace switchyard::vision
