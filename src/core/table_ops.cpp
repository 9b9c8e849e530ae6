#include "core/table_ops.h"

#include "core/torch_compat.h"
#include "kernels/rows.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace switchyard::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

kernels::MatrixRows<const float> in(const torch::Tensor& x) { return {x.data_ptr<float>(), x.size(1)}; }
kernels::MatrixRows<float> out_of(const torch::Tensor& x) { return {x.data_ptr<float>(), x.size(1)}; }

// Rows `rows` of a table of `count` are sum of weights[t, j] x[t] over the reads of each.
torch::Tensor table_gradient(const torch::Tensor& x, const torch::Tensor& weights, const torch::Tensor& rows, const torch::Tensor& at, int64_t count) {
  auto values = torch::zeros({rows.size(0), x.size(1)}, x.options());
  kernels::scatter_add_scaled_rows(at.size(0), at.size(1), x.size(1), in(x), weights.data_ptr<float>(), at.data_ptr<int64_t>(), out_of(values));
  return at::_sparse_coo_tensor_unsafe(rows.unsqueeze(0), values, {count, x.size(1)})._coalesced_(true);
}

torch::Tensor dots(const torch::Tensor& x, const torch::Tensor& table, const torch::Tensor& ids) {
  auto out = torch::empty(ids.sizes(), x.options());
  kernels::combine_rows_backward(ids.size(0), ids.size(1), x.size(1), in(x), in(table), ids.data_ptr<int64_t>(), nullptr, {}, out.data_ptr<float>());
  return out;
}

torch::Tensor sums(const torch::Tensor& table, const torch::Tensor& weights, const torch::Tensor& ids) {
  auto out = torch::empty({ids.size(0), table.size(1)}, table.options());
  kernels::combine_rows(ids.size(0), ids.size(1), table.size(1), in(table), ids.data_ptr<int64_t>(), weights.data_ptr<float>(), /*add=*/false, out_of(out));
  return out;
}

struct TableDot : torch::autograd::Function<TableDot> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x_in, const torch::Tensor& table, const torch::Tensor& ids, const torch::Tensor& rows,
                               const torch::Tensor& at) {
    const auto x = x_in.contiguous();
    ctx->save_for_backward({x, table, ids, rows, at});
    return dots(x, table, ids);
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto s = ctx->get_saved_variables();
    const auto dy = grads[0].contiguous();
    return {sums(s[1], dy, s[2]), table_gradient(s[0], dy, s[3], s[4], s[1].size(0)), {}, {}, {}};
  }
};

struct TableSum : torch::autograd::Function<TableSum> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& table, const torch::Tensor& weights_in, const torch::Tensor& ids, const torch::Tensor& rows,
                               const torch::Tensor& at) {
    const auto weights = weights_in.contiguous();
    ctx->save_for_backward({table, weights, ids, rows, at});
    return sums(table, weights, ids);
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto s = ctx->get_saved_variables();
    const auto dy = grads[0].contiguous();
    return {table_gradient(dy, s[1], s[3], s[4], s[0].size(0)), dots(dy, s[0], s[2]), {}, {}, {}};
  }
};

}  // namespace

TableReads::TableReads(const torch::Tensor& ids_in) : ids(ids_in.contiguous()) {
  if (c10::GradMode::is_enabled()) {
    std::tie(rows, at, std::ignore) = at::_unique2(ids, /*sorted=*/true, /*return_inverse=*/true);
  } else {
    rows = torch::empty({0}, torch::kInt64);
    at = ids;
  }
}

torch::Tensor table_dot(const torch::Tensor& x, const torch::Tensor& table, const TableReads& reads) {
  if (on_kernels(x)) return TableDot::apply(x, table, reads.ids, reads.rows, reads.at);
  return (table.index_select(0, reads.ids.flatten()).view({reads.ids.size(0), reads.ids.size(1), -1}) * x.unsqueeze(1)).sum(2);
}

torch::Tensor table_sum(const torch::Tensor& table, const torch::Tensor& weights, const TableReads& reads) {
  if (on_kernels(table)) return TableSum::apply(table, weights, reads.ids, reads.rows, reads.at);
  return (table.index_select(0, reads.ids.flatten()).view({reads.ids.size(0), reads.ids.size(1), -1}) * weights.unsqueeze(2)).sum(1);
}

}  // namespace switchyard::ops
