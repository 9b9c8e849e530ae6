// Rows to experts and back.
#include "core/beside.h"
#include "core/ops.h"
#include "core/torch_compat.h"
#include "kernels/rows.h"
#include "kernels/strided.h"

#include <ATen/ATen.h>

namespace switchyard::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

const int64_t* ids(const torch::Tensor& x) { return x.data_ptr<int64_t>(); }
kernels::MatrixRows<const float> in(const torch::Tensor& x) { return {x.data_ptr<float>(), x.size(1)}; }
kernels::MatrixRows<float> out_of(const torch::Tensor& x) { return {x.data_ptr<float>(), x.size(1)}; }

struct GatherRows : torch::autograd::Function<GatherRows> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x_in, const torch::Tensor& row_token,
                               const torch::Tensor& row_of_pair, int64_t k) {
    const auto x = x_in.contiguous();
    auto rows = torch::empty({row_token.size(0), x.size(1)}, x.options());
    kernels::gather_rows(rows.size(0), x.size(1), in(x), ids(row_token), out_of(rows));
    ctx->save_for_backward({row_of_pair});
    ctx->saved_data["k"] = k;
    ctx->saved_data["tokens"] = x.size(0);
    return rows;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto row_of_pair = ctx->get_saved_variables()[0];
    const auto drows = grads[0].contiguous();
    const auto tokens = ctx->saved_data["tokens"].toInt();
    auto dx = torch::empty({tokens, drows.size(1)}, drows.options());
    kernels::gather_rows_backward(tokens, ctx->saved_data["k"].toInt(), drows.size(1), in(drows), ids(row_of_pair), out_of(dx));
    return {dx, {}, {}, {}};
  }
};

struct CombineRows : torch::autograd::Function<CombineRows> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& rows_in, const torch::Tensor& weights_in, const torch::Tensor& row_of_pair) {
    const auto rows = rows_in.contiguous(), weights = weights_in.contiguous();
    const auto tokens = weights.size(0), k = weights.size(1), d = rows.size(1);
    auto y = torch::empty({tokens, d}, rows.options());
    kernels::combine_rows(tokens, k, d, in(rows), ids(row_of_pair), weights.data_ptr<float>(), /*add=*/false, out_of(y));
    ctx->save_for_backward({rows, weights, row_of_pair});
    return y;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto s = ctx->get_saved_variables();
    const auto &rows = s[0], &weights = s[1], &row_of_pair = s[2];
    const auto dy = grads[0].contiguous();
    auto drows = torch::empty_like(rows), dweights = torch::empty_like(weights);
    kernels::combine_rows_backward(weights.size(0), weights.size(1), rows.size(1), in(dy), in(rows), ids(row_of_pair),
                                   weights.data_ptr<float>(), out_of(drows), dweights.data_ptr<float>());
    return {drows, dweights, {}};
  }
};

}  // namespace

torch::Tensor gather_rows(const torch::Tensor& x, const DispatchPlan& plan) {
  if (on_kernels(x) && plan.top_k > 0) return GatherRows::apply(x, plan.row_token, plan.row_of_pair, plan.top_k);
  return x.index_select(0, beside(x, plan.row_token));
}

torch::Tensor combine_rows(const torch::Tensor& rows, const torch::Tensor& weights, const DispatchPlan& plan) {
  if (on_kernels(rows) && plan.top_k > 0) return CombineRows::apply(rows, weights, plan.row_of_pair);
  const auto w = beside(rows, weights.reshape({-1}).index_select(0, beside(weights, plan.row_weight_index))).unsqueeze(1);
  return torch::zeros({plan.num_tokens, rows.size(1)}, rows.options()).index_add(0, beside(rows, plan.row_token), rows * w);
}

}  // namespace switchyard::ops
