// Rows to experts and back, and the choice of experts.
#include "core/ops.h"
#include "core/torch_compat.h"
#include "kernels/routing.h"
#include "kernels/rows.h"

#include <ATen/ATen.h>

#include <limits>

namespace switchyard::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

const int64_t* ids(const torch::Tensor& x) { return x.data_ptr<int64_t>(); }

struct GatherRows : torch::autograd::Function<GatherRows> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x_in, const torch::Tensor& row_token) {
    const auto x = x_in.contiguous();
    const auto d = x.size(1), n = row_token.size(0);
    auto rows = torch::empty({n, d}, x.options());
    kernels::gather_rows(x.data_ptr<float>(), ids(row_token), n, d, rows.data_ptr<float>());
    ctx->save_for_backward({row_token});
    ctx->saved_data["tokens"] = x.size(0);
    return rows;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto row_token = ctx->get_saved_variables()[0];
    const auto dy = grads[0].contiguous();
    auto dx = torch::zeros({ctx->saved_data["tokens"].toInt(), dy.size(1)}, dy.options());
    kernels::scatter_add_rows(dy.data_ptr<float>(), ids(row_token), row_token.size(0), dy.size(1), dx.data_ptr<float>());
    return {dx, {}};
  }
};

struct CombineRows : torch::autograd::Function<CombineRows> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& rows_in, const torch::Tensor& weights_in,
                               const torch::Tensor& row_token, const torch::Tensor& row_weight, int64_t tokens) {
    const auto rows = rows_in.contiguous(), weights = weights_in.contiguous();
    const auto n = rows.size(0), d = rows.size(1);
    auto y = torch::zeros({tokens, d}, rows.options());
    kernels::combine_rows(rows.data_ptr<float>(), weights.data_ptr<float>(), ids(row_token), ids(row_weight), n, d, y.data_ptr<float>());
    ctx->save_for_backward({rows, weights, row_token, row_weight});
    return y;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto s = ctx->get_saved_variables();
    const auto &rows = s[0], &weights = s[1];
    const auto dy = grads[0].contiguous();
    auto drows = torch::empty_like(rows);
    auto dweights = torch::zeros_like(weights);
    kernels::combine_rows_backward(rows.data_ptr<float>(), weights.data_ptr<float>(), ids(s[2]), ids(s[3]), rows.size(0), rows.size(1),
                                   dy.data_ptr<float>(), drows.data_ptr<float>(), dweights.data_ptr<float>());
    return {drows, dweights, {}, {}, {}};
  }
};

}  // namespace

torch::Tensor gather_rows(const torch::Tensor& x, const DispatchPlan& plan) {
  return on_kernels(x) ? GatherRows::apply(x, plan.row_token) : x.index_select(0, plan.row_token);
}

torch::Tensor combine_rows(const torch::Tensor& rows, const torch::Tensor& weights, const DispatchPlan& plan) {
  if (on_kernels(rows)) return CombineRows::apply(rows, weights, plan.row_token, plan.row_weight_index, plan.num_tokens);
  const auto w = weights.reshape({-1}).index_select(0, plan.row_weight_index).unsqueeze(1);
  return torch::zeros({plan.num_tokens, rows.size(1)}, rows.options()).index_add(0, plan.row_token, rows * w);
}

torch::Tensor top_k(const torch::Tensor& scores, int64_t k) {
  if (scores.scalar_type() == torch::kFloat32) {
    const auto s = scores.contiguous();
    auto out = torch::empty({s.size(0), k}, torch::kInt64);
    kernels::top_k_rows(s.data_ptr<float>(), s.size(0), s.size(1), k, out.data_ptr<int64_t>());
    return out;
  }
  const auto never = -std::numeric_limits<double>::infinity();
  const auto s = at::where(scores.isnan(), torch::full({}, never, scores.options()), scores);
  const auto [value, id] = at::sort(s, /*stable=*/true, /*dim=*/-1, /*descending=*/true);
  return at::where(value.slice(1, 0, k) == never, torch::full({}, -1, torch::kInt64), id.slice(1, 0, k)).contiguous();
}

}  // namespace switchyard::ops
