// Activations, normalisation, rotation and dropout.
#include "core/ops.h"
#include "core/torch_compat.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard::ops {
namespace {

torch::Tensor phi_of(const std::string& phi, const torch::Tensor& z) {
  if (phi == "relu") return at::relu(z);
  if (phi == "gelu") return at::gelu(z);
  if (phi == "gelu_tanh") return at::gelu(z, "tanh");
  if (phi == "silu") return at::silu(z);
  fail(ErrorKind::internal, "there is no activation '{}'", phi);
}

}  // namespace

torch::Tensor activation(const std::string& phi, const torch::Tensor& z) { return phi_of(phi, z); }

torch::Tensor gated_activation(const std::string& phi, const torch::Tensor& z) {
  const auto f = z.size(-1) / 2;
  return phi_of(phi, z.slice(-1, 0, f)) * z.slice(-1, f);
}

torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + eps) * weight;
}

torch::Tensor rope(const torch::Tensor& x, const torch::Tensor& positions, const torch::Tensor& cos, const torch::Tensor& sin) {
  const auto half = x.size(3) / 2;
  const auto at_positions = [&](const torch::Tensor& table) {
    return table.index_select(0, positions.reshape({-1})).view({x.size(0), x.size(1), 1, half}).to(x.scalar_type());
  };
  const auto c = at_positions(cos), s = at_positions(sin);
  const auto a = x.slice(3, 0, half), b = x.slice(3, half);
  return at::cat({a * c - b * s, b * c + a * s}, 3);
}

torch::Tensor dropout(const torch::Tensor& x, double p, const RandomStream& stream) {
  if (p <= 0) return x;
  auto mask = torch::empty(x.sizes(), torch::kFloat32);
  stream.fill_uniform(mask.data_ptr<float>(), mask.numel());
  return x * (mask >= p).to(x.scalar_type()).div_(1 - p);
}

}  // namespace switchyard::ops
