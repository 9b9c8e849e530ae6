// AdamW on float32 master weights (arXiv:1711.05101, algorithm 2; the schedule is in the learning rate that is given):
//
// A sparse gradient (core/table_ops.h) changes its rows alone: weights, moments and decay of all others stay as they are, bit for bit.
//
//   m <- b1 m + (1 - b1) g      v <- b2 v + (1 - b2) g^2      w <- w - lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay w)
#pragma once

#include "steps/parameters.h"

#include <map>

namespace switchyard {

class AdamW {
 public:
  AdamW(std::vector<TrainedParameter> parameters, const OptimizerOptions& options);

  // One update with the gradients times `gradient_factor`. A parameter that is frozen or without gradient stays as it is.
  void step(double lr, double gradient_factor = 1);

  [[nodiscard]] const std::vector<TrainedParameter>& parameters() const { return parameters_; }

  // Moments by the names "adamw.m.<parameter>" and "adamw.v.<parameter>".
  void save(std::map<std::string, torch::Tensor>& tensors) const;
  // Throws Error{checkpoint} for a moment that is missing or has another shape. `steps`: updates done so far.
  void load(const std::map<std::string, torch::Tensor>& tensors, int64_t steps);

 private:
  std::vector<TrainedParameter> parameters_;
  std::vector<torch::Tensor> m_, v_;
  OptimizerOptions options_;
  int64_t steps_ = 0;
};

}  // namespace switchyard
