// Oracles for routed layers: one token and one choice at a time, no permutation, nothing clever. Run them in float64.
#pragma once

#include "switchyard/routing.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>

namespace switchyard::testing {

using ExpertFn = std::function<torch::Tensor(int64_t expert, const torch::Tensor& token)>;

// y[t] = sum_j kept[t,j] * w[t,j] * F_{id[t,j]}(x[t])
inline torch::Tensor moe_by_loops(const torch::Tensor& x, const TokenChoice& c, const torch::Tensor& kept, const ExpertFn& expert) {
  std::vector<torch::Tensor> rows;
  for (int64_t t = 0; t < x.size(0); ++t) {
    auto y = torch::zeros_like(x[t]);
    for (int64_t j = 0; j < c.expert_ids.size(1); ++j) {
      const auto e = c.expert_ids[t][j].item<int64_t>();
      if (e >= 0 && (!kept.defined() || kept[t][j].item<bool>())) y = y + c.weights[t][j] * expert(e, x[t]);
    }
    rows.push_back(y);
  }
  return rows.empty() ? torch::zeros_like(x) : at::stack(rows);
}

inline torch::Tensor phi(const std::string& kind, const torch::Tensor& z) {
  if (kind == "relu" || kind == "reglu") return at::relu(z);
  if (kind == "relu2") return at::relu(z) * at::relu(z);
  if (kind == "glu") return 1 / (1 + at::exp(-z));
  if (kind == "bilinear") return z;
  if (kind == "gelu" || kind == "geglu") return at::gelu(z);
  if (kind == "geglu_tanh") return 0.5 * z * (1 + at::tanh(0.7978845608028654 * (z + 0.044715 * z * z * z)));
  return at::silu(z);
}

// One expert by its definition, from w_in [E, f or 2f, d] and w_out [E, d, f].
inline ExpertFn ffn_expert(const std::string& kind, const torch::Tensor& w_in, const torch::Tensor& w_out) {
  return [=](int64_t e, const torch::Tensor& x) {
    const auto z = at::mv(w_in[e], x);
    if (kind == "relu" || kind == "gelu" || kind == "relu2") return at::mv(w_out[e], phi(kind, z));
    const auto f = z.size(0) / 2;
    return at::mv(w_out[e], phi(kind, z.slice(0, 0, f)) * z.slice(0, f));
  };
}

// max |got - want| <= tolerance * max(1, max |want|); the worst element is reported.
inline ::testing::AssertionResult all_close(const torch::Tensor& got, const torch::Tensor& want, double tolerance) {
  if (got.sizes() != want.sizes()) return ::testing::AssertionFailure() << "shape " << got.sizes() << ", expected " << want.sizes();
  if (want.numel() == 0) return ::testing::AssertionSuccess();
  const auto a = got.detach().to(torch::kFloat64), b = want.detach().to(torch::kFloat64);
  const auto gap = (a - b).abs().flatten();
  const auto worst = gap.argmax().item<int64_t>();
  const double scale = std::max(1.0, b.abs().max().item<double>());
  if (gap[worst].item<double>() <= tolerance * scale) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "element " << worst << " is " << a.flatten()[worst].item<double>() << ", expected "
                                       << b.flatten()[worst].item<double>() << ", tolerance " << tolerance * scale;
}

// Largest relative gap between the gradient of `loss` at `x` and central differences in float64, over `probes` elements.
inline double finite_difference_gap(const std::function<torch::Tensor()>& loss, torch::Tensor x, int64_t probes = 12, double h = 1e-6) {
  x.mutable_grad() = torch::Tensor();
  loss().backward();
  const auto grad = x.grad().clone();
  torch::NoGradGuard no_grad;
  double worst = 0;
  const auto flat = x.view({-1});
  const auto scale = std::max(1e-6, grad.abs().max().item<double>());
  for (int64_t p = 0; p < std::min(probes, flat.size(0)); ++p) {
    const auto i = p * flat.size(0) / std::min(probes, flat.size(0));
    const double before = flat[i].item<double>();
    flat[i] = before + h;
    const double up = loss().item<double>();
    flat[i] = before - h;
    const double down = loss().item<double>();
    flat[i] = before;
    worst = std::max(worst, std::abs((up - down) / (2 * h) - grad.view({-1})[i].item<double>()) / scale);
  }
  return worst;
}

// Fixture A of the routing literature notes: six tokens, four experts.
inline torch::Tensor fixture_logits() {
  return torch::tensor({2.0, 1.0, 0.0, -1.0, 1.9, 2.0, 0.5, 0.0, 3.0, 0.0, 1.0, 0.5, 0.2, 0.1, 0.4, 0.3, 2.5, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0, 2.0},
                       torch::kFloat32).view({6, 4});
}

}  // namespace switchyard::testing
