// Activations, normalisation, rotation and dropout.
#include "core/ops.h"
#include "core/torch_compat.h"
#include "kernels/activation.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "kernels/strided.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard::ops {

kernels::Activation kernel_activation(const std::string& phi) {
  if (phi == "relu") return kernels::Activation::relu;
  if (phi == "gelu") return kernels::Activation::gelu;
  if (phi == "gelu_tanh") return kernels::Activation::gelu_tanh;
  if (phi == "silu") return kernels::Activation::silu;
  if (phi == "sigmoid") return kernels::Activation::sigmoid;
  if (phi == "identity") return kernels::Activation::identity;
  if (phi == "relu2") return kernels::Activation::relu2;
  fail(ErrorKind::internal, "there is no activation '{}'", phi);
}

namespace {

using kernels::MatrixRows;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

torch::Tensor reference_phi(const std::string& phi, const torch::Tensor& z) {
  switch (kernel_activation(phi)) {
    case kernels::Activation::relu: return at::relu(z);
    case kernels::Activation::gelu: return at::gelu(z);
    case kernels::Activation::gelu_tanh: return at::gelu(z, "tanh");
    case kernels::Activation::silu: return at::silu(z);
    case kernels::Activation::sigmoid: return at::sigmoid(z);
    case kernels::Activation::identity: return z;
    case kernels::Activation::relu2: return at::relu(z).square();
  }
  fail(ErrorKind::internal, "there is no activation '{}'", phi);
}

// z [N, f], or [N, 2f] = (g, u) when gated. The halves are read and written in place: rows lie 2f apart.
struct ActivationOp : torch::autograd::Function<ActivationOp> {
  template <class T> static MatrixRows<T> half(const torch::Tensor& z, bool second) { return {z.data_ptr<float>() + (second ? z.size(1) / 2 : 0), z.size(1)}; }

  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& z_in, int64_t kind, bool gated) {
    const auto z = z_in.contiguous();
    const auto f = gated ? z.size(1) / 2 : z.size(1);
    auto h = torch::empty({z.size(0), f}, z.options());
    const auto u = gated ? half<const float>(z, true) : MatrixRows<const float>{};
    kernels::activation_forward(static_cast<kernels::Activation>(kind), z.size(0), f, half<const float>(z, false), u, {h.data_ptr<float>(), f});
    ctx->save_for_backward({z});
    ctx->saved_data["kind"] = kind;
    ctx->saved_data["gated"] = gated;
    return h;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto z = ctx->get_saved_variables()[0];
    const bool gated = ctx->saved_data["gated"].toBool();
    const auto dh = grads[0].contiguous();
    auto dz = torch::empty_like(z);
    const auto u = gated ? half<const float>(z, true) : MatrixRows<const float>{};
    const auto du = gated ? half<float>(dz, true) : MatrixRows<float>{};
    kernels::activation_backward(static_cast<kernels::Activation>(ctx->saved_data["kind"].toInt()), z.size(0), dh.size(1), half<const float>(z, false), u,
                                 {dh.data_ptr<float>(), dh.size(1)}, half<float>(dz, false), du, {});
    return {dz, {}, {}};
  }
};

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x_in, const torch::Tensor& weight, double eps) {
    const auto x = x_in.contiguous();
    const auto width = x.size(-1), tokens = width == 0 ? 0 : x.numel() / width;
    auto y = torch::empty_like(x);
    auto inverse_rms = torch::empty({tokens}, x.options());
    kernels::rms_norm_forward(tokens, width, x.data_ptr<float>(), weight.data_ptr<float>(), static_cast<float>(eps), y.data_ptr<float>(), inverse_rms.data_ptr<float>());
    ctx->save_for_backward({x, weight, inverse_rms});
    return y;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto s = ctx->get_saved_variables();
    const auto &x = s[0], &weight = s[1], &inverse_rms = s[2];
    const auto dy = grads[0].contiguous();
    auto dx = torch::empty_like(x), dweight = torch::empty_like(weight);
    kernels::rms_norm_backward(inverse_rms.size(0), weight.size(0), x.data_ptr<float>(), weight.data_ptr<float>(), inverse_rms.data_ptr<float>(),
                               dy.data_ptr<float>(), nullptr, dx.data_ptr<float>(), dweight.data_ptr<float>());
    return {dx, dweight, {}};
  }
};

// y = x turned by the positions; the kernel works in place, so on a copy.
torch::Tensor rotated(const torch::Tensor& x, const torch::Tensor& positions, const torch::Tensor& cos, const torch::Tensor& sin, bool inverse) {
  auto y = x.clone(at::MemoryFormat::Contiguous);
  const kernels::RopeShape shape{x.size(0), x.size(1), x.size(2), x.size(3), 2 * cos.size(1)};
  kernels::rope_rotate(shape, {y.data_ptr<float>(), y.stride(0), y.stride(1)}, positions.data_ptr<int64_t>(), cos.data_ptr<float>(), sin.data_ptr<float>(), inverse);
  return y;
}

struct Rope : torch::autograd::Function<Rope> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x, const torch::Tensor& positions, const torch::Tensor& cos, const torch::Tensor& sin) {
    ctx->save_for_backward({positions, cos, sin});
    return rotated(x, positions, cos, sin, /*inverse=*/false);
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto s = ctx->get_saved_variables();
    return {rotated(grads[0], s[0], s[1], s[2], /*inverse=*/true), {}, {}, {}};
  }
};

}  // namespace

torch::Tensor activation(const std::string& phi, const torch::Tensor& z) {
  return on_kernels(z) ? ActivationOp::apply(z, static_cast<int64_t>(kernel_activation(phi)), false) : reference_phi(phi, z);
}

torch::Tensor gated_activation(const std::string& phi, const torch::Tensor& z) {
  if (on_kernels(z)) return ActivationOp::apply(z, static_cast<int64_t>(kernel_activation(phi)), true);
  const auto f = z.size(-1) / 2;
  return reference_phi(phi, z.slice(-1, 0, f)) * z.slice(-1, f);
}

torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  if (on_kernels(x)) return RmsNorm::apply(x, weight, eps);
  return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + eps) * weight;
}

torch::Tensor rope(const torch::Tensor& x, const torch::Tensor& positions, const torch::Tensor& cos, const torch::Tensor& sin) {
  if (on_kernels(x)) return Rope::apply(x, positions.contiguous(), cos, sin);
  const auto half = x.size(3) / 2;
  const auto at_positions = [&](const torch::Tensor& table) {
    return table.index_select(0, positions.reshape({-1})).view({x.size(0), x.size(1), 1, half}).to(x.device(), x.scalar_type());
  };
  const auto c = at_positions(cos), s = at_positions(sin);
  const auto a = x.slice(3, 0, half), b = x.slice(3, half);
  return at::cat({a * c - b * s, b * c + a * s}, 3);
}

torch::Tensor dropout(const torch::Tensor& x, double p, const RandomStream& stream) {
  if (p <= 0) return x;
  auto mask = torch::empty(x.sizes(), torch::kFloat32);
  stream.fill_uniform(mask.data_ptr<float>(), mask.numel());
  return x * (mask >= p).to(x.device(), x.scalar_type()).div_(1 - p);
}

}  // namespace switchyard::ops
