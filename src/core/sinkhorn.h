// Sinkhorn's alternating scalings: the transport plan between tokens and experts with entropy.
#pragma once

#include <torch/types.h>

#include <cstdint>

namespace switchyard {

struct SinkhornOptions {
  double tau = 1;           // weight of the entropy
  int64_t iterations = 100;
  double tolerance = 1e-4;  // ends when no row sum is further from 1
};

// log Pi [T, E] in float64, Pi = argmax sum_ti Pi_ti z_ti + tau H(Pi) with rows summing to 1 and columns to T / E. An iteration
// scales rows, then columns: columns are exact, rows within the tolerance. No gradient.
[[nodiscard]] torch::Tensor sinkhorn_log_plan(const torch::Tensor& logits, const SinkhornOptions& options = {});

}  // namespace switchyard
