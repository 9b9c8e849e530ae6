#include "vision/training.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

namespace switchyard::vision {

torch::Tensor normal(const RandomStream& stream, std::vector<int64_t> shape, double std) {
  auto out = torch::empty(shape, torch::kFloat32);
  stream.fill_normal(out.data_ptr<float>(), out.numel());
  return out.mul_(std);
}

torch::Tensor uniform(const RandomStream& stream, std::vector<int64_t> shape, double low, double high) {
  auto out = torch::empty(shape, torch::kFloat32);
  stream.fill_uniform(out.data_ptr<float>(), out.numel());
  return out.mul_(high - low).add_(low);
}

torch::Tensor integers(const RandomStream& stream, int64_t count, int64_t bound) {
  auto out = torch::empty({count}, torch::kInt64);
  for (int64_t i = 0; i < count; ++i) out.data_ptr<int64_t>()[i] = static_cast<int64_t>(stream.below(static_cast<uint64_t>(i), static_cast<uint64_t>(bound)));
  return out;
}

torch::Tensor orthonormal(const RandomStream& stream, int64_t count, int64_t d) {
  if (count > d) fail(ErrorKind::config, "{} orthonormal vectors of width {}, expected at most {}", count, d, d);
  auto out = normal(stream, {count, d}).to(torch::kFloat64);
  for (int64_t i = 0; i < count; ++i) {  // Gram-Schmidt, twice for its rounding
    for (int again = 0; again < 2 && i > 0; ++again) out[i] -= at::mv(out.slice(0, 0, i).t(), at::mv(out.slice(0, 0, i), out[i]));
    out[i] /= out[i].norm();
  }
  return out.to(torch::kFloat32);
}

torch::Tensor cross_entropy(const torch::Tensor& logits, const torch::Tensor& labels) {
  const auto loss = -at::log_softmax(logits, 1).gather(1, labels.unsqueeze(1)).mean();
  if (!std::isfinite(loss.item<double>())) fail(ErrorKind::numeric, "the loss is {}; consider a lower learning rate", loss.item<double>());
  return loss;
}

double accuracy(const torch::Tensor& logits, const torch::Tensor& labels) { return (logits.argmax(1) == labels).to(torch::kFloat64).mean().item<double>(); }

torch::Tensor mini_batch(const RandomStream& stream, int64_t step, int64_t count, int64_t size) {
  return integers(stream.at("batch", static_cast<uint64_t>(step)), size, count);
}

void clear_gradients(const std::vector<torch::Tensor>& parameters) {
  for (const auto& p : parameters) p.mutable_grad() = torch::Tensor();
}

Sgd::Sgd(std::vector<torch::Tensor> parameters, const Options& options) : parameters_(std::move(parameters)), options_(options) {
  for (const auto& p : parameters_) velocity_.push_back(torch::zeros_like(p).detach());
}

void Sgd::step(double lr_factor) {
  const c10::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!parameters_[i].grad().defined()) continue;
    velocity_[i].mul_(options_.momentum).add_(parameters_[i].grad()).add_(parameters_[i], options_.weight_decay);
    parameters_[i].sub_(velocity_[i], options_.lr * lr_factor);
  }
}

void normalised_step(torch::Tensor weights, double lr) {
  if (!weights.grad().defined()) return;
  const c10::NoGradGuard no_grad;
  auto shape = std::vector<int64_t>(static_cast<size_t>(weights.dim()), 1);
  shape[0] = weights.size(0);
  // In float64: gradients of tiny cubic filters have squares that float32 cannot hold.
  const auto gradient = weights.grad().to(torch::kFloat64);
  const auto norm = gradient.flatten(1).norm(2, {1}).view(shape);
  weights.sub_(at::where(norm > 0, gradient / norm.clamp_min(1e-300), torch::zeros_like(gradient)).to(weights.scalar_type()), lr);
}

}  // namespace switchyard::vision
