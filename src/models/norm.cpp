#include "models/norm.h"

#include "core/ops.h"

#include <ATen/ATen.h>

namespace switchyard {

Norm::Norm(torch::nn::Module& owner, const std::string& name, const ModelSpec& spec) : eps(spec.norm_eps), rms(spec.norm == "rms") {
  weight = owner.register_parameter(name, torch::ones({spec.d_model}));
  if (spec.norm == "layer") bias = owner.register_parameter(name + "_bias", torch::zeros({spec.d_model}));
}

torch::Tensor Norm::operator()(const torch::Tensor& x) const {
  return rms ? ops::rms_norm(x, weight, eps) : at::layer_norm(x, {x.size(-1)}, weight, bias, eps);
}

}  // namespace switchyard
