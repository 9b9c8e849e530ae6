// Products with the experts' matrices. A dense linear layer is the same product with one expert.
#include "core/ops.h"
#include "core/packed_parameter.h"
#include "core/torch_compat.h"
#include "kernels/grouped_gemm.h"
#include "kernels/packed/product.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard::ops {
namespace {

using kernels::GemmCompute;
using kernels::GemmForm;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

struct Operands {
  GemmForm form;
  GemmCompute compute;
  const torch::Tensor &a, &b;
  torch::Tensor& c;
};

void multiply(const Operands& o, const torch::Tensor& offsets, int64_t m, int64_t n, int64_t k) {
  kernels::grouped_gemm({.form = o.form, .compute = o.compute, .a = o.a.data_ptr<float>(), .b = o.b.data_ptr<float>(),
                         .c = o.c.data_ptr<float>(), .offsets = offsets.data_ptr<int64_t>(),
                         .experts = offsets.size(0) - 1, .m = m, .n = n, .k = k});
}

struct GroupedLinear : torch::autograd::Function<GroupedLinear> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& rows_in, const torch::Tensor& offsets,
                               const torch::Tensor& weight_in, int64_t compute) {
    const auto rows = rows_in.contiguous(), weight = weight_in.contiguous();
    const auto n = weight.size(1), k = weight.size(2);
    auto out = torch::empty({rows.size(0), n}, rows.options());
    multiply({GemmForm::nt, static_cast<GemmCompute>(compute), rows, weight, out}, offsets, 0, n, k);
    ctx->save_for_backward({rows, offsets, weight});
    ctx->saved_data["compute"] = compute;
    return out;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &rows = saved[0], &offsets = saved[1], &weight = saved[2];
    const auto compute = static_cast<GemmCompute>(ctx->saved_data["compute"].toInt());
    const auto dy = grads[0].contiguous();
    const auto n = weight.size(1), k = weight.size(2);
    torch::Tensor drows, dweight;
    if (ctx->needs_input_grad(0)) {
      drows = torch::empty_like(rows);
      multiply({GemmForm::nn, compute, dy, weight, drows}, offsets, 0, k, n);
    }
    if (ctx->needs_input_grad(2)) {
      dweight = torch::empty_like(weight);
      multiply({GemmForm::tn, compute, dy, rows, dweight}, offsets, n, k, 0);
    }
    return {drows, {}, dweight, {}};
  }
};

torch::Tensor reference(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& weight) {
  std::vector<torch::Tensor> parts;
  const auto* o = offsets.data_ptr<int64_t>();
  for (int64_t e = 0; e + 1 < offsets.size(0); ++e)
    if (o[e + 1] > o[e]) parts.push_back(at::matmul(rows.slice(0, o[e], o[e + 1]), weight[e].t()));
  if (parts.empty()) return at::matmul(rows, weight.sum(0).t());  // no rows: an empty result that still has a graph
  return at::cat(parts, 0);
}

torch::Tensor packed_product(const torch::Tensor& rows_in, const torch::Tensor& offsets, const PackedWeights& w) {
  if (!on_kernels(rows_in)) fail(ErrorKind::unsupported, "packed weights multiply float32 tensors on the CPU");
  if (at::GradMode::is_enabled() && rows_in.requires_grad()) fail(ErrorKind::unsupported, "packed weights carry no gradient: load the model with float32 weights");
  const auto rows = rows_in.detach().contiguous();
  auto out = torch::empty({rows.size(0), w.n()}, rows.options());
  kernels::packed::packed_product({.w = &w, .offsets = offsets.data_ptr<int64_t>(), .a = rows.data_ptr<float>(), .c = out.data_ptr<float>()});
  return out;
}

torch::Tensor product(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& weight, ComputeType type) {
  if (!on_kernels(rows)) return reference(rows, offsets, weight);
  return GroupedLinear::apply(rows, offsets, weight,
                              static_cast<int64_t>(type == ComputeType::bfloat16 ? GemmCompute::bfloat16 : GemmCompute::float32));
}

}  // namespace

torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, bool exact) {
  const auto k = weight.size(1);
  if (x.size(-1) != k) fail(ErrorKind::internal, "linear: x has width {}, weight expects {}", x.size(-1), k);
  const PackedWeights* packed = packed_form(weight);
  if (!on_kernels(x) && !packed) return at::matmul(x, weight.t());
  const auto rows = x.reshape({-1, k});
  const auto offsets = torch::tensor({int64_t{0}, rows.size(0)}, torch::kInt64);
  auto shape = x.sizes().vec();
  shape.back() = weight.size(0);
  if (packed) return packed_product(rows, offsets, *packed).view(shape);
  return product(rows, offsets, weight.unsqueeze(0), exact ? ComputeType::float32 : ComputeScope::current()).view(shape);
}

torch::Tensor grouped_linear(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& weight) {
  if (offsets.size(0) != weight.size(0) + 1)
    fail(ErrorKind::internal, "grouped_linear: {} offsets for {} experts", offsets.size(0), weight.size(0));
  if (offsets.data_ptr<int64_t>()[offsets.size(0) - 1] != rows.size(0))
    fail(ErrorKind::internal, "grouped_linear: offsets cover {} rows of {}", offsets.data_ptr<int64_t>()[offsets.size(0) - 1], rows.size(0));
  if (const PackedWeights* packed = packed_form(weight)) return packed_product(rows, offsets, *packed);
  return product(rows, offsets, weight, ComputeScope::current());
}

}  // namespace switchyard::ops
