#include "vision/images.h"

#include "vision/training.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

namespace switchyard::vision {

PictureClasses::PictureClasses(uint64_t seed, int64_t classes, int64_t size, double noise) : stream_(seed, "pictures"), noise_(noise) {
  const auto coarse = uniform(stream_.at("templates"), {classes, 1, 4, 4});
  templates_ = at::upsample_bilinear2d(coarse, {size, size}, /*align_corners=*/false).squeeze(1);
}

Pictures PictureClasses::draw(const char* part, int64_t n) const {
  const auto stream = stream_.at(part);
  const int64_t size = templates_.size(1);
  Pictures out;
  out.labels = integers(stream.at("label"), n, classes());
  const auto dx = integers(stream.at("dx"), n, 5) - 2, dy = integers(stream.at("dy"), n, 5) - 2;
  const auto pixel = torch::arange(size, torch::kInt64);
  const auto rows = at::remainder(pixel.unsqueeze(0) + dy.unsqueeze(1), size).unsqueeze(2).expand({n, size, size});
  const auto columns = at::remainder(pixel.unsqueeze(0) + dx.unsqueeze(1), size).unsqueeze(1).expand({n, size, size});
  const auto moved = templates_.index_select(0, out.labels).gather(1, rows).gather(2, columns);
  const auto contrast = uniform(stream.at("contrast"), {n, 1, 1}, 0.6, 1.0);
  out.x = (0.5 + contrast * (moved - 0.5) + normal(stream.at("noise"), {n, size, size}, noise_)).clamp(0, 1).unsqueeze(1);
  return out;
}

torch::Tensor attacked(const torch::Tensor& x, const Attack& a, const RandomStream& random, const std::function<torch::Tensor(const torch::Tensor&)>& loss) {
  auto adversary = (x + normal(random, x.sizes().vec(), a.start_noise).to(x.scalar_type()).clamp(-a.epsilon, a.epsilon)).clamp(0, 1);
  for (int64_t step = 0; step < a.steps; ++step) {
    const auto leaf = adversary.detach().requires_grad_();
    const auto gradient = torch::autograd::grad({loss(leaf)}, {leaf})[0];
    const auto moved = leaf.detach() + a.step * gradient.sign();
    adversary = at::min(at::max(moved, x - a.epsilon), x + a.epsilon).clamp(0, 1);
  }
  return adversary.detach();
}

torch::Tensor divergence(const torch::Tensor& p, const torch::Tensor& q) {
  const auto log_p = at::log_softmax(p, 1), log_q = at::log_softmax(q, 1);
  return (log_p.exp() * (log_p - log_q)).sum(1).mean();
}

}  // namespace switchyard::vision
