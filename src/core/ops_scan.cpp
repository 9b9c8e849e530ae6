// The recurrence of selective state spaces.
#include "core/beside.h"
#include "core/ops.h"
#include "core/torch_compat.h"
#include "kernels/selective_scan.h"

#include <ATen/ATen.h>

namespace switchyard::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

kernels::ScanShape shape_of(const torch::Tensor& u, const torch::Tensor& a) { return {u.size(0), u.size(1), u.size(2), a.size(1)}; }

kernels::ScanInput input_of(const tensor_list& t) {
  const auto data = [&](size_t i) { return t[i].data_ptr<float>(); };
  return {data(0), data(1), data(2), data(3), data(4), data(5), t[6].numel() > 0 ? reinterpret_cast<const uint8_t*>(t[6].data_ptr<bool>()) : nullptr};
}

struct SelectiveScan : torch::autograd::Function<SelectiveScan> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& u, const torch::Tensor& delta, const torch::Tensor& a, const torch::Tensor& b,
                               const torch::Tensor& c, const torch::Tensor& d, const torch::Tensor& reset) {
    const tensor_list in{u.contiguous(), delta.contiguous(), a.contiguous(), b.contiguous(), c.contiguous(), d.contiguous(), reset.contiguous()};
    auto y = torch::empty(u.sizes(), u.options());
    kernels::selective_scan(shape_of(u, a), input_of(in), nullptr, y.data_ptr<float>());
    ctx->save_for_backward(in);
    return y;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto in = ctx->get_saved_variables();
    const auto dy = grads[0].contiguous();
    tensor_list out;
    for (size_t i = 0; i < 6; ++i) out.push_back(torch::empty_like(in[i]));
    const auto data = [&](size_t i) { return out[i].data_ptr<float>(); };
    kernels::selective_scan_backward(shape_of(in[0], in[2]), input_of(in), dy.data_ptr<float>(), {data(0), data(1), data(2), data(3), data(4), data(5)});
    out.emplace_back();
    return out;
  }
};

// Step by step on ATen: any dtype.
torch::Tensor reference(const torch::Tensor& u, const torch::Tensor& delta, const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& c,
                        const torch::Tensor& d, const torch::Tensor& reset, torch::Tensor h, torch::Tensor* last = nullptr) {
  std::vector<torch::Tensor> y;
  if (!h.defined()) h = torch::zeros({u.size(0), u.size(2), a.size(1)}, u.options());
  for (int64_t t = 0; t < u.size(1); ++t) {
    const auto step = delta.select(1, t).unsqueeze(-1), x = u.select(1, t);  // [B, E, 1], [B, E]
    if (reset.numel() > 0) h = h.masked_fill(reset.select(1, t).view({-1, 1, 1}), 0);
    h = at::exp(step * a) * h + step * x.unsqueeze(-1) * b.select(1, t).unsqueeze(1);
    y.push_back((h * c.select(1, t).unsqueeze(1)).sum(-1) + d * x);
  }
  if (last) *last = h;
  return at::stack(y, 1);
}

}  // namespace

torch::Tensor selective_scan(const torch::Tensor& u, const torch::Tensor& delta, const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& c,
                             const torch::Tensor& d, const torch::Tensor& reset) {
  const auto flags = beside(u, reset.defined() ? reset : torch::empty({0}, torch::kBool));
  return on_kernels(u) ? SelectiveScan::apply(u, delta, a, b, c, d, flags) : reference(u, delta, a, b, c, d, flags, {});
}

torch::Tensor selective_scan_step(const torch::Tensor& u, const torch::Tensor& delta, const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& c,
                                  const torch::Tensor& d, const torch::Tensor& reset, const torch::Tensor& state) {
  const c10::NoGradGuard no_grad;
  if (!on_kernels(u)) {
    torch::Tensor last;
    auto out = reference(u, delta, a, b, c, d, beside(u, reset.defined() ? reset : torch::empty({0}, torch::kBool)), state, &last);
    state.copy_(last);
    return out;
  }
  const tensor_list in{u.contiguous(), delta.contiguous(), a.contiguous(), b.contiguous(), c.contiguous(), d.contiguous(),
                       reset.defined() ? reset.contiguous() : torch::empty({0}, torch::kBool)};
  auto y = torch::empty(u.sizes(), u.options());
  kernels::selective_scan(shape_of(u, a), input_of(in), state.data_ptr<float>(), y.data_ptr<float>());
  return y;
}

}  // namespace switchyard::ops
