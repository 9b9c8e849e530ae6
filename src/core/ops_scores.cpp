// Scores of a gate: softmax, log sum exp, top-k, shares of the chosen.
#include "core/ops.h"
#include "core/torch_compat.h"
#include "kernels/routing.h"
#include "kernels/softmax.h"

#include <ATen/ATen.h>

#include <limits>

namespace switchyard::ops {
namespace {

using kernels::MatrixRows;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

int64_t width_of(const torch::Tensor& x) { return x.size(-1); }
int64_t rows_of(const torch::Tensor& x) { return width_of(x) == 0 ? 0 : x.numel() / width_of(x); }
template <class T> MatrixRows<T> rows_in(const torch::Tensor& x) { return {x.data_ptr<float>(), width_of(x)}; }

struct Softmax : torch::autograd::Function<Softmax> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x_in) {
    const auto x = x_in.contiguous();
    auto p = torch::empty_like(x);
    kernels::softmax_rows(rows_of(x), width_of(x), rows_in<const float>(x), rows_in<float>(p), nullptr);
    ctx->save_for_backward({p});
    return p;
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto p = ctx->get_saved_variables()[0];
    const auto dp = grads[0].contiguous();
    auto dx = torch::empty_like(p);
    kernels::softmax_rows_backward(rows_of(p), width_of(p), rows_in<const float>(p), rows_in<const float>(dp), nullptr, rows_in<float>(dx));
    return {dx};
  }
};

struct LogSumExp : torch::autograd::Function<LogSumExp> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& x_in) {
    const auto x = x_in.contiguous();
    auto p = torch::empty_like(x), lse = torch::empty(x.sizes().slice(0, static_cast<size_t>(x.dim() - 1)), x.options());
    kernels::softmax_rows(rows_of(x), width_of(x), rows_in<const float>(x), rows_in<float>(p), lse.data_ptr<float>());
    ctx->save_for_backward({p});
    return lse;
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto p = ctx->get_saved_variables()[0];
    const auto dlse = grads[0].contiguous();
    auto dx = torch::empty_like(p);
    kernels::softmax_rows_backward(rows_of(p), width_of(p), rows_in<const float>(p), {}, dlse.data_ptr<float>(), rows_in<float>(dx));
    return {dx};
  }
};

struct ChosenShares : torch::autograd::Function<ChosenShares> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& scores_in, const torch::Tensor& ids_in) {
    const auto scores = scores_in.contiguous(), ids = ids_in.contiguous();
    auto weights = torch::empty(ids.sizes(), scores.options());
    kernels::chosen_shares(ids.size(0), scores.size(1), ids.size(1), scores.data_ptr<float>(), ids.data_ptr<int64_t>(), weights.data_ptr<float>());
    ctx->save_for_backward({scores, ids, weights});
    return weights;
  }
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto s = ctx->get_saved_variables();
    const auto &scores = s[0], &ids = s[1], &weights = s[2];
    const auto d_weights = grads[0].contiguous();
    auto d_scores = torch::empty_like(scores);
    kernels::chosen_shares_backward(ids.size(0), scores.size(1), ids.size(1), scores.data_ptr<float>(), ids.data_ptr<int64_t>(),
                                    weights.data_ptr<float>(), d_weights.data_ptr<float>(), d_scores.data_ptr<float>());
    return {d_scores, {}};
  }
};

}  // namespace

torch::Tensor softmax(const torch::Tensor& x) { return on_kernels(x) ? Softmax::apply(x) : at::softmax(x, -1); }

torch::Tensor logsumexp(const torch::Tensor& x) { return on_kernels(x) ? LogSumExp::apply(x) : at::logsumexp(x, -1); }

torch::Tensor chosen_shares(const torch::Tensor& scores, const torch::Tensor& ids) {
  if (on_kernels(scores)) return ChosenShares::apply(scores, ids);
  const auto chosen = scores.gather(1, ids.clamp_min(0)).masked_fill(ids < 0, 0);
  return chosen / chosen.sum(1, /*keepdim=*/true).clamp_min(1e-20);
}

torch::Tensor top_k(const torch::Tensor& scores, int64_t k) {
  if (on_kernels(scores)) {
    const auto s = scores.contiguous();
    auto out = torch::empty({s.size(0), k}, torch::kInt64);
    kernels::top_k_rows(s.size(0), s.size(1), k, s.data_ptr<float>(), out.data_ptr<int64_t>(), nullptr);
    return out;
  }
  const auto never = torch::full({}, -std::numeric_limits<double>::infinity(), scores.options());
  const auto [value, id] = at::sort(at::where(scores.isnan(), never, scores), /*stable=*/true, /*dim=*/-1, /*descending=*/true);
  return at::where(value.slice(1, 0, k) == never, torch::full({}, -1, torch::kInt64), id.slice(1, 0, k)).contiguous();
}

}  // namespace switchyard::ops
