#include "core/sinkhorn.h"

#include "kernels/sinkhorn.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {
namespace {

torch::Tensor plan_in_logarithms(torch::Tensor log_plan, double log_column, const SinkhornOptions& options) {
  for (int64_t i = 0; i < options.iterations; ++i) {
    log_plan = log_plan - at::logsumexp(log_plan, 1, true);
    log_plan = log_plan - at::logsumexp(log_plan, 0, true) + log_column;
    if ((at::logsumexp(log_plan, 1).exp() - 1).abs().max().item<double>() < options.tolerance) break;
  }
  return log_plan;
}

}  // namespace

// Scales of rows and columns are as good as logarithms while no exponential comes near the ends of float64.
torch::Tensor sinkhorn_log_plan(const torch::Tensor& logits, const SinkhornOptions& options) {
  const auto z = logits.detach().to(torch::kFloat64) / options.tau;
  if (z.size(0) == 0) return z;
  const double column = static_cast<double>(z.size(0)) / static_cast<double>(z.size(1));
  const auto relative = (z - z.amax(1, /*keepdim=*/true)).contiguous();
  constexpr double kWidest = 100;  // scales may reach e^100 and its inverse
  if (!(relative.min().item<double>() > -kWidest)) return plan_in_logarithms(z, std::log(column), options);
  const auto m = relative.exp();
  auto row = torch::empty({z.size(0), 1}, torch::kFloat64), scale = torch::empty({z.size(1)}, torch::kFloat64);
  kernels::sinkhorn_scales(z.size(0), z.size(1), m.data_ptr<double>(), column, options.iterations, options.tolerance, row.data_ptr<double>(), scale.data_ptr<double>());
  return relative + row.log() + scale.log();
}

}  // namespace switchyard
