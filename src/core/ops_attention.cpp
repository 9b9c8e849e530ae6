#include "core/beside.h"
#include "core/ops.h"
#include "core/torch_compat.h"
#include "kernels/attention.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
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

// Who is seen: [B or 1, 1, Sq, Sk] for the queries first .. first + Sq - 1 of `all` that stand behind `keys` - `all` older keys.
torch::Tensor visible(int64_t first, int64_t queries, int64_t all, int64_t keys, const torch::Tensor& q_segment, const torch::Tensor& k_segment,
                      const AttentionOptions& o, torch::Device device) {
  const auto numbers = torch::TensorOptions(torch::kInt64).device(device);
  const auto query = (torch::arange(queries, numbers) + (first + keys - all)).unsqueeze(1), key = torch::arange(keys, numbers).unsqueeze(0);
  auto out = torch::ones({queries, keys}, numbers.dtype(torch::kBool));
  if (o.causal) out = out & (key <= query);
  if (o.window > 0) out = out & (key > query - o.window);
  out = out.view({1, 1, queries, keys});
  if (!q_segment.defined()) return out;
  const auto mine = q_segment.slice(1, first, first + queries);
  return out & (mine.unsqueeze(2) == k_segment.unsqueeze(1)).unsqueeze(1) & (k_segment >= 0).view({-1, 1, 1, keys});
}

torch::Tensor some_queries(int64_t first, int64_t all, const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, const torch::Tensor& q_segment,
                           const torch::Tensor& k_segment, const AttentionOptions& o) {
  const auto queries = q.size(2), keys = k.size(2);
  auto scores = at::matmul(q, k.transpose(-1, -2)) * o.scale;  // [B, H, Sq, Sk]
  if (o.logit_cap > 0) scores = at::tanh(scores / o.logit_cap) * o.logit_cap;
  if (o.bias.defined()) scores = scores + o.bias.slice(2, first, first + queries);
  const auto seen = visible(first, queries, all, keys, q_segment, k_segment, o, q.device());
  if (o.stick_breaking) {
    // ln a_ij = ln sigmoid(s_ij) + sum over m > j of ln(1 - sigmoid(s_im)), the sum from the nearest token on.
    const auto missed = at::where(seen, at::log_sigmoid(-scores), torch::zeros({}, scores.options()));
    const auto behind = missed.flip(-1).cumsum(-1).flip(-1) - missed;
    return at::matmul(at::where(seen, at::exp(at::log_sigmoid(scores) + behind), torch::zeros({}, scores.options())), v);
  }
  scores = scores.masked_fill(~seen, -std::numeric_limits<double>::infinity());
  if (o.sinks.defined()) {
    const auto sink = o.sinks.to(scores.scalar_type()).view({1, -1, 1, 1}).expand({scores.size(0), -1, queries, 1});
    return at::matmul(at::softmax(at::cat({scores, sink}, -1), -1).slice(-1, 0, keys), v);
  }
  const auto probs = torch::where(seen, at::softmax(scores, -1), torch::zeros({}, scores.options()));
  return at::matmul(probs, v);
}

torch::Tensor reference(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, const torch::Tensor& q_segment,
                        const torch::Tensor& k_segment, const AttentionOptions& o) {
  constexpr int64_t kScores = int64_t{1} << 24;  // held at a time
  const auto queries = q.size(1), repeat = q.size(2) / k.size(2);
  const auto heads_first = [&](const torch::Tensor& x, int64_t times) { return (times > 1 ? x.repeat_interleave(times, 2) : x).permute({0, 2, 1, 3}); };
  const auto q1 = heads_first(q, 1), k1 = heads_first(k, repeat), v1 = heads_first(v, repeat);
  const int64_t step = std::clamp<int64_t>(kScores / std::max<int64_t>(1, q.size(0) * q.size(2) * k.size(1)), 1, std::max<int64_t>(1, queries));
  std::vector<torch::Tensor> out;
  for (int64_t first = 0; first < queries || first == 0; first += step)
    out.push_back(some_queries(first, queries, q1.slice(2, first, std::min(first + step, queries)), k1, v1, q_segment, k_segment, o));
  return (out.size() == 1 ? out[0] : at::cat(out, 2)).permute({0, 2, 1, 3}).contiguous();
}

}  // namespace

torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, const torch::Tensor& q_segment,
                        const torch::Tensor& k_segment, double scale, bool causal) {
  return attention(q, k, v, q_segment, k_segment, {.scale = scale, .causal = causal, .sinks = {}, .bias = {}});
}

torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, const torch::Tensor& q_segment,
                        const torch::Tensor& k_segment, const AttentionOptions& options) {
  if (q_segment.defined() != k_segment.defined()) fail(ErrorKind::internal, "attention: segments of queries and keys come together");
  AttentionOptions o = options;
  if (o.scale == 0) o.scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
  const bool plain = (o.window <= 0 || (o.causal && o.window >= k.size(1))) && o.logit_cap == 0 && !o.sinks.defined() && !o.bias.defined() && !o.stick_breaking;
  if (!on_kernels(q) || !plain) return reference(q, k, v, beside(q, q_segment), beside(q, k_segment), o);
  // An autograd function takes no undefined tensor: an empty one stands for "no segments".
  const auto ints = [](const torch::Tensor& s) { return s.defined() ? s.to(torch::kInt32).contiguous() : torch::empty({0}, torch::kInt32); };
  const int64_t width = v.size(3), missing = q.size(3) - width;  // the kernel knows one width: zeros fill narrower values
  if (missing < 0) return reference(q, k, v, q_segment, k_segment, o);
  const auto wide = missing > 0 ? at::constant_pad_nd(v, {0, missing}) : v;
  const auto out = Attention::apply(q, k, wide, ints(q_segment), ints(k_segment), o.scale, o.causal);
  return missing > 0 ? out.slice(3, 0, width) : out;
}

}  // namespace switchyard::ops
