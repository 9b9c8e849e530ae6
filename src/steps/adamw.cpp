#include "steps/adamw.h"

#include "kernels/adamw.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace switchyard {
namespace {

std::string moment_name(const char* which, const TrainedParameter& p) { return fmt::format("adamw.{}.{}", which, p.name); }

}  // namespace

AdamW::AdamW(std::vector<TrainedParameter> parameters, const OptimizerOptions& options)
    : parameters_(std::move(parameters)), options_(options) {
  for (const TrainedParameter& p : parameters_) {
    m_.push_back(torch::zeros(p.tensor.sizes(), torch::kFloat32));
    v_.push_back(torch::zeros(p.tensor.sizes(), torch::kFloat32));
  }
}

void AdamW::step(double lr, double gradient_factor) {
  const c10::NoGradGuard no_grad;
  kernels::AdamW update{.learning_rate = 0,  // set for each parameter
                        .beta1 = static_cast<float>(options_.beta1),
                        .beta2 = static_cast<float>(options_.beta2),
                        .eps = static_cast<float>(options_.eps),
                        .step = ++steps_,
                        .grad_scale = static_cast<float>(gradient_factor)};
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const TrainedParameter& p = parameters_[i];
    if (p.lr_scale == 0 || !p.tensor.grad().defined()) continue;
    update.learning_rate = static_cast<float>(lr * p.lr_scale);
    update.weight_decay = p.decays ? static_cast<float>(options_.weight_decay) : 0.0f;
    const torch::Tensor gradient = p.tensor.grad().contiguous();
    kernels::adamw_step(update, p.tensor.numel(), gradient.data_ptr<float>(), p.tensor.data_ptr<float>(), m_[i].data_ptr<float>(),
                        v_[i].data_ptr<float>());
  }
}

void AdamW::save(std::map<std::string, torch::Tensor>& tensors) const {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    tensors[moment_name("m", parameters_[i])] = m_[i];
    tensors[moment_name("v", parameters_[i])] = v_[i];
  }
}

void AdamW::load(const std::map<std::string, torch::Tensor>& tensors, int64_t steps) {
  const auto read = [&](const std::string& name, torch::Tensor& moment) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) fail(ErrorKind::checkpoint, "the training state has no tensor {}", name);
    if (found->second.sizes() != moment.sizes())
      fail(ErrorKind::checkpoint, "training state: {} has shape [{}], expected [{}]", name, fmt::join(found->second.sizes(), ", "),
           fmt::join(moment.sizes(), ", "));
    moment.copy_(found->second);
  };
  for (size_t i = 0; i < parameters_.size(); ++i) {
    read(moment_name("m", parameters_[i]), m_[i]);
    read(moment_name("v", parameters_[i]), v_[i]);
  }
  steps_ = steps;
}

}  // namespace switchyard
