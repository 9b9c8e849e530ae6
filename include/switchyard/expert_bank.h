// All experts of one layer as one module: rows in, rows out, sorted by expert.
#pragma once

#include "switchyard/plug_in.h"
#include "switchyard/random.h"

#include <torch/nn/module.h>
#include <torch/types.h>

namespace switchyard {

// Sizes and initialisation of a bank. With expert parallelism a rank holds experts first_expert .. first_expert +
// num_local_experts - 1 of num_experts.
struct BankShape {
  int64_t d_model = 0, d_expert = 0, num_experts = 1;
  int64_t first_expert = 0, num_local_experts = -1;  // -1: all of them
  int64_t layer = 0;
  double init_std = 0.02;       // N(0, init_std^2) for inner matrices
  double init_out_std = 0.02;   // the matrix that writes to the residual stream
  uint64_t seed = 0;            // parameters are drawn per expert from named streams: equal for any number of ranks

  [[nodiscard]] int64_t local() const { return num_local_experts < 0 ? num_experts : num_local_experts; }
};

// What a bank may want to know about its rows besides their content.
struct RowContext {
  torch::Tensor row_token = {};  // [N] int64; undefined when rows came from other ranks
  bool training = false;
  RandomStream random{0};   // of this layer and step
  int64_t first_token = 0;  // of the call among all tokens of the step
};

class ExpertBank : public torch::nn::Module {
 public:
  // rows [N, ...] sorted by expert, offsets [num_local_experts + 1] int64 on the CPU -> [N, ...].
  [[nodiscard]] virtual torch::Tensor forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext& context) = 0;

  // The same with one averaged expert per group: weights [G, E], offsets [G + 1]. Throws Error{unsupported} for banks
  // whose parameters have no meaningful average.
  [[nodiscard]] virtual torch::Tensor forward_merged(const torch::Tensor& rows, const torch::Tensor& offsets,
                                                     const torch::Tensor& weights, const RowContext& context);

  [[nodiscard]] virtual int64_t parameters_per_expert() const = 0;
  [[nodiscard]] virtual double flops_per_row() const = 0;  // multiply and add counted as two, forward only
  // Output weights as one vector per expert [E, n], for the similarity picture. No gradient.
  [[nodiscard]] virtual torch::Tensor flat_weights() const = 0;
};

using ExpertEntry = PlugIn<ExpertBank, BankShape>;
Registry<ExpertEntry>& expert_registry();

}  // namespace switchyard
