#include "core/ops.h"
#include "core/torch_compat.h"
#include "kernels/attention.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <limits>

namespace switchyard::ops {
namespace {

using kernels::HeadRows;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// The kernel wants the heads of a token side by side; tokens and sequences may lie further apart (slices, caches).
torch::Tensor with_packed_heads(const torch::Tensor& x) {
  return x.stride(3) == 1 && x.stride(2) == x.size(3) ? x : x.contiguous();
}

HeadRows<const float> in(const torch::Tensor& x) { return {x.data_ptr<float>(), x.stride(0), x.stride(1)}; }
HeadRows<float> out_of(const torch::Tensor& x) { return {x.data_ptr<float>(), x.stride(0), x.stride(1)}; }

kernels::AttentionShape shape_of(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& q_segment,
                                 const torch::Tensor& k_segment, double scale, bool causal) {
  return {.batch = q.size(0), .queries = q.size(1), .keys = k.size(1), .heads = q.size(2), .kv_heads = k.size(2),
          .head_dim = q.size(3), .scale = static_cast<float>(scale), .causal = causal,
          .q_segment = q_segment.numel() > 0 ? q_segment.data_ptr<int32_t>() : nullptr,
          .k_segment = k_segment.numel() > 0 ? k_segment.data_ptr<int32_t>() : nullptr};
}

struct Attention : torch::autograd::Function<Attention> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& q_in, const torch::Tensor& k_in, const torch::Tensor& v_in,
                               const torch::Tensor& q_segment, const torch::Tensor& k_segment, double scale, bool causal) {
    const auto q = with_packed_heads(q_in), k = with_packed_heads(k_in), v = with_packed_heads(v_in);
    auto out = torch::empty(q.sizes(), q.options());
    auto lse = torch::empty({q.size(0), q.size(2), q.size(1)}, q.options());
    kernels::attention_forward(shape_of(q, k, q_segment, k_segment, scale, causal), in(q), in(k), in(v), out_of(out), lse.data_ptr<float>());
    ctx->save_for_backward({q, k, v, q_segment, k_segment, out, lse});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["causal"] = causal;
    return out;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto s = ctx->get_saved_variables();
    const auto &q = s[0], &k = s[1], &v = s[2], &out = s[5], &lse = s[6];
    const auto dout = with_packed_heads(grads[0]);
    auto dq = torch::empty(q.sizes(), q.options()), dk = torch::empty(k.sizes(), k.options()), dv = torch::empty(v.sizes(), v.options());
    kernels::attention_backward(shape_of(q, k, s[3], s[4], ctx->saved_data["scale"].toDouble(), ctx->saved_data["causal"].toBool()), in(q), in(k), in(v), in(out),
                                lse.data_ptr<float>(), in(dout), {out_of(dq), out_of(dk), out_of(dv)});
    return {dq, dk, dv, {}, {}, {}, {}};
  }
};

torch::Tensor reference(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, const torch::Tensor& q_segment,
                        const torch::Tensor& k_segment, double scale, bool causal) {
  const auto queries = q.size(1), keys = k.size(1), repeat = q.size(2) / k.size(2);
  const auto heads_first = [&](const torch::Tensor& x) { return x.repeat_interleave(repeat, 2).permute({0, 2, 1, 3}); };
  auto scores = at::matmul(q.permute({0, 2, 1, 3}), heads_first(k).transpose(-1, -2)) * scale;  // [B, H, Sq, Sk]
  auto visible = torch::ones({queries, keys}, torch::kBool).view({1, 1, queries, keys});
  if (causal) visible = visible.tril(keys - queries);
  if (q_segment.defined())
    visible = visible & (q_segment.unsqueeze(2) == k_segment.unsqueeze(1)).unsqueeze(1) & (k_segment >= 0).view({-1, 1, 1, keys});
  scores = scores.masked_fill(~visible, -std::numeric_limits<double>::infinity());
  const auto probs = torch::where(visible, at::softmax(scores, -1), torch::zeros({}, scores.options()));
  return at::matmul(probs, heads_first(v)).permute({0, 2, 1, 3}).contiguous();
}

}  // namespace

torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, const torch::Tensor& q_segment,
                        const torch::Tensor& k_segment, double scale, bool causal) {
  if (q_segment.defined() != k_segment.defined()) fail(ErrorKind::internal, "attention: segments of queries and keys come together");
  if (!on_kernels(q)) return reference(q, k, v, q_segment, k_segment, scale, causal);
  // An autograd function takes no undefined tensor: an empty one stands for "no segments".
  const auto ints = [](const torch::Tensor& s) { return s.defined() ? s.to(torch::kInt32).contiguous() : torch::empty({0}, torch::kInt32); };
  return Attention::apply(q, k, v, ints(q_segment), ints(k_segment), scale, causal);
}

}  // namespace switchyard::ops
