#include "vision/cubic_mixture.h"

#include "vision/training.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard::vision {

CubicMixture::CubicMixture(const Options& o, int64_t d, uint64_t seed) : linear_(o.linear) {
  const double bound = o.init_factor / std::sqrt(static_cast<double>(d));  // of a convolution over one patch
  filters_ = register_parameter("filters", uniform(RandomStream(seed, "cubic filters"), {o.experts, 2 * o.filters, d}, -bound, bound));
  router_ = register_parameter("router", torch::zeros({o.experts, d}));
}

torch::Tensor CubicMixture::expert(int64_t m, const torch::Tensor& x) const {
  const auto z = at::matmul(x, filters_[m].t());  // [B, P, 2 J]
  const auto sums = (linear_ ? z : z * z * z).sum(1);
  return sums.view({x.size(0), 2, -1}).sum(2);
}

CubicMixture::Output CubicMixture::forward(const torch::Tensor& x, const torch::Tensor& noise) {
  const auto h = at::matmul(x.sum(1), router_.t());  // [B, M]
  Output out;
  out.choice = (noise.defined() ? h + noise : h).detach().argmax(1);
  out.probs = at::softmax(h, 1);
  auto scores = torch::zeros({x.size(0), 2}, x.options());
  for (int64_t m = 0; m < experts(); ++m) {
    const auto mine = (out.choice == m).nonzero().view({-1});
    if (mine.size(0) > 0) scores = scores.index_copy(0, mine, expert(m, x.index_select(0, mine)));
  }
  out.scores = scores * out.probs.gather(1, out.choice.unsqueeze(1));
  return out;
}

}  // namespace switchyard::vision
