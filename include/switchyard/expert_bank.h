// All experts of one layer as one module: rows in, rows out, sorted by expert.
#pragma once

#include "switchyard/dispatch_plan.h"
#include "switchyard/packable.h"
#include "switchyard/plug_in.h"
#include "switchyard/random.h"
#include "switchyard/site.h"

#include <torch/nn/module.h>
#include <torch/types.h>

#include <vector>

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
  int64_t d_out = 0;            // width of the rows that come out; 0 = d_model. For banks that may change it (changes_width)
  int64_t heads = 1;            // rows are (token, head) pairs: row r belongs to head row_token[r] % heads

  [[nodiscard]] int64_t local() const { return num_local_experts < 0 ? num_experts : num_local_experts; }
};

// What a bank may want to know about its rows besides their content.
struct RowContext {
  torch::Tensor row_token = {};  // [N] int64; undefined when rows came from other ranks
  bool training = false;
  RandomStream random{0};   // of this layer and step
  int64_t first_token = 0;  // of the call among all tokens of the step
  SiteHook at_site = {};    // who sits at the linears and activations inside (site.h); asked by the banks that have sites()
};

class ExpertBank : public torch::nn::Module {
 public:
  // rows [N, ...] sorted by expert, offsets [num_local_experts + 1] int64 on the CPU -> [N, ...].
  [[nodiscard]] virtual torch::Tensor forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext& context) = 0;

  // The same with one averaged expert per group: weights [G, E], offsets [G + 1]. Throws Error{unsupported} for banks
  // whose parameters have no meaningful average.
  [[nodiscard]] virtual torch::Tensor forward_merged(const torch::Tensor& rows, const torch::Tensor& offsets,
                                                     const torch::Tensor& weights, const RowContext& context);

  // The whole way from tokens to weighted sums, y[t] = sum of weights of t times its experts' rows, for banks that can go it
  // without rows in between; an undefined tensor says that this one cannot, now. Carries no gradient. tokens [T, d] -> [T, d].
  [[nodiscard]] virtual torch::Tensor forward_tokens(const torch::Tensor& /*tokens*/, const DispatchPlan& /*plan*/, const torch::Tensor& /*weights*/,
                                                     const RowContext& /*context*/) {
    return {};
  }
  // Parameters that may be packed: forward and forward_tokens do not mind.
  [[nodiscard]] virtual std::vector<Packable> packable() const { return {}; }

  [[nodiscard]] virtual int64_t parameters_per_expert() const = 0;
  // Those that one row meets, in experts that look only a part of themselves up.
  [[nodiscard]] virtual int64_t active_parameters_per_expert() const { return parameters_per_expert(); }
  [[nodiscard]] virtual double flops_per_row() const = 0;  // multiply and add counted as two, forward only
  // The same of one expert, in banks whose experts differ in size.
  [[nodiscard]] virtual double flops_of(int64_t /*expert*/) const { return flops_per_row(); }
  // False when experts are no slices of their own of the bank's parameters, so that none can be taken out (layer/tag_network.h).
  [[nodiscard]] virtual bool separable() const { return true; }
  // Output weights as one vector per expert [E, n], for the similarity picture. No gradient.
  [[nodiscard]] virtual torch::Tensor flat_weights() const = 0;

  // May BankShape::d_out differ from d_model?
  [[nodiscard]] virtual bool changes_width() const { return false; }
  // What a mixture of these experts does at a site: false, they read the input of the linear and their sum is added to its
  // output; true, they read that output and what they make of it takes its place.
  [[nodiscard]] virtual bool rescales() const { return false; }
  // Linears and activations inside one expert that are offered to RowContext::at_site, in the order of the calls.
  [[nodiscard]] virtual std::vector<Site> sites() const { return {}; }
};

using ExpertEntry = PlugIn<ExpertBank, BankShape>;
Registry<ExpertEntry>& expert_registry();

}  // namespace switchyard
