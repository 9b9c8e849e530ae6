#include "vision/patch_experts.h"

#include "switchyard/error.h"
#include "vision/training.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace switchyard::vision {

PatchExperts::PatchExperts(const Options& o, int64_t patches, int64_t d, uint64_t seed) : options_(o), patches_(patches) {
  if (o.keep < 1 || o.keep > patches) fail(ErrorKind::config, "patch experts: keep = {}, expected 1 to {} patches", o.keep, patches);
  if (o.experts < 1 || o.filters < 1) fail(ErrorKind::config, "patch experts: {} experts of {} filters, expected at least 1 of each", o.experts, o.filters);
  const RandomStream random(seed, "patch experts");
  gates_ = register_parameter("gates", normal(random.at("gates"), {o.experts, d}, o.gate_std));
  filters_ = register_parameter("filters", normal(random.at("filters"), {o.experts, o.filters, d}, o.filter_std));
  signs_ = register_buffer("signs", (1 - 2 * at::remainder(torch::arange(o.filters), 2)).to(torch::kFloat32));
}

PatchExperts::Routing PatchExperts::route(const torch::Tensor& x) const {
  const auto g = at::matmul(x, gates_.t()).transpose(1, 2);  // [B, S, n]
  const auto order = std::get<1>(g.detach().sort(/*stable=*/true, /*dim=*/2, /*descending=*/true));
  const auto kept = order.slice(2, 0, options_.keep).contiguous();
  const auto weights = options_.softmax_first ? at::softmax(g, 2).gather(2, kept) : at::softmax(g.gather(2, kept), 2);
  return {kept, weights};
}

torch::Tensor PatchExperts::forward(const torch::Tensor& x) const {
  const int64_t batch = x.size(0), d = x.size(2), experts = options_.experts;
  torch::Tensor rows, weights;  // [S, B * l, d], [B, S, l]
  if (options_.routed) {
    const auto routing = route(x);
    weights = routing.weights;
    const auto index = routing.kept.view({batch, experts * options_.keep, 1}).expand({batch, experts * options_.keep, d});
    rows = x.gather(1, index).view({batch, experts, options_.keep, d});
  } else {
    rows = x.unsqueeze(1).expand({batch, experts, patches_, d});
    weights = torch::ones({batch, experts, patches_}, x.options());
  }
  const int64_t seen = rows.size(2);
  const auto z = at::relu(at::bmm(rows.transpose(0, 1).reshape({experts, batch * seen, d}), filters_.transpose(1, 2)));  // [S, B * l, R]
  const auto by_row = at::matmul(z, signs_.to(z.scalar_type())).view({experts, batch, seen}).transpose(0, 1);
  return (by_row * weights).sum(2).sum(1) / static_cast<double>(seen);
}

void PatchExperts::train_gates(const torch::Tensor& x, const torch::Tensor& labels, double lr) {
  const c10::NoGradGuard no_grad;
  const auto y = (2 * labels - 1).to(x.scalar_type());
  const auto direction = (y.unsqueeze(1) * x.sum(1)).mean(0);  // [d]
  const int64_t half = (options_.experts + 1) / 2;
  gates_.slice(0, 0, half).add_(direction, lr);
  gates_.slice(0, half).sub_(direction, lr);
}

double PatchExperts::flops_per_sample() const {
  const double seen = static_cast<double>(options_.routed ? options_.keep : patches_);
  return 2.0 * seen * static_cast<double>(filters_.numel());
}

}  // namespace switchyard::vision
