#include "vision/hard_mixture.h"

#include "switchyard/error.h"
#include "vision/training.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace switchyard::vision {
namespace {

torch::Tensor distances(const torch::Tensor& x, const torch::Tensor& centroids) { return (x.unsqueeze(1) - centroids.unsqueeze(0)).square().sum(2); }  // [n, K]

}  // namespace

torch::Tensor Whitening::apply(const torch::Tensor& x) const { return at::matmul(x - mean, map); }

Whitening whitening_of(const torch::Tensor& x, double eps) {
  const c10::NoGradGuard no_grad;
  const auto mean = x.mean(0), centred = (x - mean).to(torch::kFloat64);
  const auto covariance = at::matmul(centred.t(), centred) / static_cast<double>(x.size(0));
  const auto [values, vectors] = at::linalg_eigh(covariance);
  const auto map = at::matmul(vectors * (values.clamp_min(0) + eps).rsqrt(), vectors.t());
  return {mean, map.to(x.scalar_type())};
}

torch::Tensor nearest(const torch::Tensor& x, const torch::Tensor& centroids) {
  const auto d = distances(x, centroids);
  const auto best = d == std::get<0>(d.min(1, /*keepdim=*/true));
  return best.to(torch::kInt64).argmax(1);  // the first of equal ones
}

torch::Tensor k_means(const torch::Tensor& x, int64_t clusters, const RandomStream& random, int64_t rounds) {
  if (clusters < 1 || clusters > x.size(0)) fail(ErrorKind::config, "k-means: {} clusters, expected 1 to {} samples", clusters, x.size(0));
  const c10::NoGradGuard no_grad;
  const auto first = uniform(random, {x.size(0)}).argsort(/*stable=*/true, 0, /*descending=*/false).slice(0, 0, clusters);
  auto centroids = x.index_select(0, first).clone();
  for (int64_t round = 0; round < rounds; ++round) {
    const auto own = nearest(x, centroids);
    const auto counts = torch::zeros({clusters}, x.options()).index_add_(0, own, torch::ones({x.size(0)}, x.options()));
    const auto sums = torch::zeros_like(centroids).index_add_(0, own, x);
    auto next = sums / counts.clamp_min(1).unsqueeze(1);
    auto far = (x - centroids.index_select(0, own)).square().sum(1);
    for (int64_t k = 0; k < clusters; ++k) {
      if (counts[k].item<double>() > 0) continue;
      const auto farthest = far.argmax().item<int64_t>();
      next[k] = x[farthest];
      far[farthest] = -1;
    }
    if (next.equal(centroids)) break;
    centroids = next;
  }
  return centroids;
}

HardMixture::HardMixture(Whitening whitening, torch::Tensor centroids, const torch::Tensor& head, const torch::Tensor& bias)
    : whitening_(std::move(whitening)), centroids_(register_buffer("centroids", std::move(centroids))) {
  heads_ = register_parameter("heads", head.detach().unsqueeze(0).repeat({centroids_.size(0), 1, 1}));
  biases_ = register_parameter("biases", bias.detach().unsqueeze(0).repeat({centroids_.size(0), 1}));
}

torch::Tensor HardMixture::expert_of(const torch::Tensor& features) const { return nearest(whitening_.apply(features), centroids_); }

torch::Tensor HardMixture::forward(const torch::Tensor& features) const {
  const auto own = expert_of(features);
  auto out = torch::zeros({features.size(0), heads_.size(1)}, features.options());
  for (int64_t k = 0; k < experts(); ++k) {
    const auto mine = (own == k).nonzero().view({-1});
    if (mine.size(0) > 0) out = out.index_copy(0, mine, at::addmm(biases_[k], features.index_select(0, mine), heads_[k].t()));
  }
  return out;
}

void HardMixture::train_expert(int64_t expert, const torch::Tensor& features, const torch::Tensor& labels, int64_t steps, double lr) {
  const auto mine = (expert_of(features) == expert).nonzero().view({-1});
  if (mine.size(0) == 0) return;
  const auto x = features.index_select(0, mine).detach(), y = labels.index_select(0, mine);
  auto head = heads_[expert].detach().clone().requires_grad_(), bias = biases_[expert].detach().clone().requires_grad_();
  Sgd sgd({head, bias}, {.lr = lr});
  for (int64_t step = 0; step < steps; ++step) {
    sgd.clear();
    cross_entropy(at::addmm(bias, x, head.t()), y).backward();
    sgd.step();
  }
  const c10::NoGradGuard no_grad;
  heads_[expert].copy_(head);
  biases_[expert].copy_(bias);
}

}  // namespace switchyard::vision
