#include "steps/adamw.h"

#include "core/row_gradient.h"
#include "kernels/adamw.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/ranges.h>

#include <cmath>

namespace switchyard {
namespace {

// Row r of the gradient belongs to row rows[r] of the table.
void step_rows(const kernels::AdamW& update, const torch::Tensor& rows, const torch::Tensor& gradient, const torch::Tensor& weights, torch::Tensor& m,
               torch::Tensor& v) {
  const auto row = rows.contiguous();
  const int64_t count = row.size(0), width = count == 0 ? 0 : gradient.numel() / count;
  const auto* place = row.data_ptr<int64_t>();
  const auto* g = gradient.data_ptr<float>();
  auto *w = weights.data_ptr<float>(), *first = m.data_ptr<float>(), *second = v.data_ptr<float>();
#pragma omp parallel for schedule(static) if (count * width > 16384)
  for (int64_t r = 0; r < count; ++r) {
    const int64_t at = place[r] * width;
    kernels::adamw_step(update, width, g + r * width, w + at, first + at, second + at);
  }
}

// kernels::adamw_step in libtorch's operations, for parameters on a device.
void step_on_device(const kernels::AdamW& o, const torch::Tensor& gradient, const torch::Tensor& weights, torch::Tensor& m, torch::Tensor& v) {
  const double correction1 = 1 - std::pow(static_cast<double>(o.beta1), o.step), correction2 = 1 - std::pow(static_cast<double>(o.beta2), o.step);
  const auto g = gradient * o.grad_scale;
  m.mul_(o.beta1).add_(g, 1 - o.beta1);
  v.mul_(o.beta2).addcmul_(g, g, 1 - o.beta2);
  weights.mul_(1 - o.learning_rate * o.weight_decay).addcdiv_(m / correction1, (v / correction2).sqrt_().add_(o.eps), -o.learning_rate);
}

std::string moment_name(const char* which, const TrainedParameter& p) { return fmt::format("adamw.{}.{}", which, p.name); }

}  // namespace

AdamW::AdamW(std::vector<TrainedParameter> parameters, const OptimizerOptions& options)
    : parameters_(std::move(parameters)), options_(options) {
  for (const TrainedParameter& p : parameters_) {
    const auto like = torch::TensorOptions(torch::kFloat32).device(p.tensor.device());
    m_.push_back(torch::zeros(p.tensor.sizes(), like));
    v_.push_back(torch::zeros(p.tensor.sizes(), like));
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
    const torch::Tensor gradient = gradient_values(p.tensor.grad());
    if (!p.tensor.is_cpu()) {
      step_on_device(update, p.tensor.grad().is_sparse() ? p.tensor.grad().to_dense() : gradient, p.tensor, m_[i], v_[i]);
      continue;
    }
    if (p.tensor.grad().is_sparse()) {
      step_rows(update, p.tensor.grad().coalesce().indices()[0], gradient, p.tensor, m_[i], v_[i]);
      continue;
    }
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
