// Which inner neurons of the feed-forward networks of a model are active over a text, dense layers and experts alike.
//
//   rho = (1 / (rows f)) sum over rows and neurons of 1[|h| > epsilon],    h = phi(x W_in^T), gated: phi(x W_g^T) * x W_u^T
//
// With ReLU and epsilon = 0 a neuron is active when its input is positive; other activations have no exact zero, and a ratio means
// something only together with its epsilon. Sources: arXiv:2110.01786, arXiv:2210.06313.
#pragma once

#include "eval/visit_windows.h"

#include <map>
#include <string>
#include <vector>

namespace switchyard {

// One bank of networks. A dense layer has one expert that sees every token.
struct BankActivity {
  torch::Tensor active;  // [E, f] int64: rows of the expert in which the neuron was active
  torch::Tensor rows;    // [E] int64
  torch::Tensor values = {};  // [tokens, E * f] float32, 0 where the expert did not see the token; only when asked for

  [[nodiscard]] double ratio() const;                // rho over all experts; NaN without rows
  [[nodiscard]] torch::Tensor expert_ratios() const;  // [E] float64; NaN for an expert without rows
};

struct ActivityOptions {
  WindowOptions windows = {};
  double epsilon = 0;
  bool keep_values = false;  // activations of every token, for neuron_predictivity.h
};

struct NeuronActivity {
  std::map<std::string, BankActivity> banks;  // by the name of the module: layers.3.ffn, layers.3.ffn.experts, layers.3.ffn.shared_experts
  std::vector<int32_t> domains;               // of the tokens in `values`
};

// In evaluation mode; counts are added up window by window, padding counts nowhere. Throws Error{usage} for epsilon below 0.
[[nodiscard]] NeuronActivity neuron_activity(LanguageModel& model, const data::TokenStream& text, const ActivityOptions& options);

}  // namespace switchyard
