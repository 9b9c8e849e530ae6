#include "steps/surrogate.h"

#include "core/ops.h"
#include "switchyard/random.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace switchyard {
namespace {

constexpr double kFollow = 0.1;

}  // namespace

Surrogate::Surrogate(int64_t inputs, int64_t hidden, uint64_t seed) {
  const RandomStream stream(seed, "surrogate");
  auto inner = torch::empty({hidden, inputs});
  stream.at("inner").fill_normal(inner.data_ptr<float>(), inner.numel());
  inner_ = register_parameter("inner", inner.div_(std::sqrt(static_cast<double>(inputs))));
  bias_ = register_parameter("inner_bias", torch::zeros({hidden}));
  outer_ = register_parameter("outer", torch::zeros({1, hidden}));  // before it has learnt, every route is the same to it
  level_ = register_buffer("level", torch::full({1}, std::numeric_limits<float>::quiet_NaN()));
}

torch::Tensor Surrogate::forward(const torch::Tensor& routes) const {
  const auto h = at::gelu(ops::linear(routes, inner_, /*exact=*/true) + bias_);
  return ops::linear(h, outer_, /*exact=*/true).view({-1}) + level_;
}

void Surrogate::follow(double mean_loss) {
  const double before = level_.item<double>();
  level_.fill_(std::isnan(before) ? mean_loss : before + kFollow * (mean_loss - before));
}

}  // namespace switchyard
