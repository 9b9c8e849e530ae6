// The norms of a model, by ModelSpec::norm: RMSNorm (arXiv:1910.07467), or LayerNorm (arXiv:1607.06450) with or without a bias.
#pragma once

#include "switchyard/model_spec.h"

#include <torch/nn/module.h>

namespace switchyard {

struct Norm {
  torch::Tensor weight, bias;  // [d]; RMSNorm and LayerNorm without a bias have none
  double eps = 0;
  bool rms = true;

  // Registers its parameters in `owner` as `name` and `name`_bias.
  Norm() = default;
  Norm(torch::nn::Module& owner, const std::string& name, const ModelSpec& spec);
  // x [..., d] -> [..., d].
  [[nodiscard]] torch::Tensor operator()(const torch::Tensor& x) const;
  [[nodiscard]] bool defined() const { return weight.defined(); }
};

// Parameters of one norm.
[[nodiscard]] inline int64_t norm_size(const ModelSpec& spec) { return spec.norm == "layer" ? 2 * spec.d_model : spec.d_model; }

}  // namespace switchyard
