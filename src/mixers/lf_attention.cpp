// Attention behind a localized filter: queries and keys read a causal convolution over the token and its neighbour before, twice.
//
//   f = RMS(x + conv2(conv1(x)))      conv(x)_t = x_{t-1} W_0^T + x_t W_1^T + b      q, k = f W_q^T, f W_k^T      v = x W_v^T
//
// conv1 goes from d to d / 2 and conv2 back. The neighbour of another text counts as zero. Source: Yuan 2.0, arXiv:2311.15786 section 2.
#include "core/ops.h"
#include "core/rotate_heads.h"
#include "switchyard/error.h"
#include "switchyard/mixer.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class LocalizedFilterAttention final : public Mixer {
 public:
  using Options = NoOptions;

  LocalizedFilterAttention(const Options&, const MixerShape& s) : s_(s) {
    if (s.d_model % 2 != 0) fail(ErrorKind::config, "mixer lf_attention: d_model = {} is odd, expected an even number", s.d_model);
    if (!s.causal) fail(ErrorKind::config, "mixer lf_attention: its filter looks back only; it needs model.causal = true");
    const int64_t d = s.d_model, half = d / 2, q = s.num_heads * s.head_dim, kv = s.num_kv_heads * s.head_dim;
    const auto matrix = [&](const char* name, torch::IntArrayRef shape, double std) { return register_parameter(name, s.weight(name, shape, std)); };
    conv1_ = matrix("conv1", {2, half, d}, s.init_std);
    conv1_bias_ = register_parameter("conv1_bias", s.constant({half}, 0));
    conv2_ = matrix("conv2", {2, d, half}, s.init_std);
    conv2_bias_ = register_parameter("conv2_bias", s.constant({d}, 0));
    filter_norm_ = register_parameter("filter_norm", s.constant({d}, 1));
    q_proj_ = matrix("q_proj", {q, d}, s.init_std);
    k_proj_ = matrix("k_proj", {kv, d}, s.init_std);
    v_proj_ = matrix("v_proj", {kv, d}, s.init_std);
    o_proj_ = matrix("o_proj", {d, q}, s.init_out_std);
  }

  torch::Tensor forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, MixerTrace&, const SiteHook&) override {
    const int64_t batch = x.size(0), seq = x.size(1);
    const auto same = same_text(x, call, cache);
    const auto inner = convolved(x, conv1_, conv1_bias_, same, cache ? cache->state[2] : torch::Tensor());
    const auto f = ops::rms_norm(x + convolved(inner, conv2_, conv2_bias_, same, cache ? cache->state[3] : torch::Tensor()), filter_norm_, s_.norm_eps);
    const auto heads = [&](const torch::Tensor& t, int64_t count) { return t.view({batch, seq, count, s_.head_dim}); };
    const auto turn = [&](const torch::Tensor& t) { return rotate_heads(t, call, 0, rotary_dims(), s_.adjacent_pairs); };
    const auto q = turn(heads(ops::linear(f, q_proj_), s_.num_heads));
    auto k = turn(heads(ops::linear(f, k_proj_), s_.num_kv_heads)), v = heads(ops::linear(x, v_proj_), s_.num_kv_heads);
    if (cache) k = append(cache->state[0], cache->length, k), v = append(cache->state[1], cache->length, v);
    const auto out = ops::attention(q, k, v, call.q_segments, call.k_segments, {.causal = true, .sinks = {}, .bias = {}});
    return ops::linear(out.reshape({batch, seq, s_.num_heads * s_.head_dim}), o_proj_);
  }

  std::vector<torch::Tensor> new_state(int64_t batch, int64_t capacity) const override {
    const auto room = torch::empty({batch, capacity, s_.num_kv_heads, s_.head_dim});
    return {room, torch::empty_like(room), torch::zeros({batch, 1, s_.d_model}), torch::zeros({batch, 1, s_.d_model / 2})};
  }
  double flops_per_token(double keys) const override {
    double matrices = 0;
    for (const auto& p : parameters()) matrices += p.dim() > 1 ? 2.0 * static_cast<double>(p.numel()) : 0;
    return matrices + 4.0 * static_cast<double>(s_.num_heads * s_.head_dim) * keys;
  }
  int64_t rotary_dims() const override { return !s_.rotary ? 0 : s_.rotary_dims > 0 ? s_.rotary_dims : s_.head_dim; }

 private:
  // [B, S, 1]: is the token before of the same text? Undefined = always, but for the first one.
  static torch::Tensor same_text(const torch::Tensor& x, const CallContext& call, const LayerCache* cache) {
    if (!call.k_segments.defined()) return {};
    const int64_t before = cache ? cache->length : 0;
    const auto known = before > 0 ? call.k_segments.slice(1, before - 1, before + x.size(1)) : at::constant_pad_nd(call.k_segments.slice(1, 0, x.size(1)), {1, 0}, -2);
    return (known.slice(1, 1) == known.slice(1, 0, -1)).unsqueeze(-1).to(x.device(), x.scalar_type());
  }

  // `last` [B, 1, d_in]: the token before the first one, and afterwards the last one.
  static torch::Tensor convolved(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, const torch::Tensor& same, const torch::Tensor& last) {
    const auto first = last.defined() ? last.clone() : torch::zeros({x.size(0), 1, x.size(2)}, x.options());
    auto before = at::cat({first, x.slice(1, 0, -1)}, 1);
    if (same.defined()) before = before * same;
    if (last.defined()) last.copy_(x.slice(1, -1));
    return ops::linear(before, weight.select(0, 0)) + ops::linear(x, weight.select(0, 1)) + bias;
  }

  MixerShape s_;
  torch::Tensor conv1_, conv1_bias_, conv2_, conv2_bias_, filter_norm_, q_proj_, k_proj_, v_proj_, o_proj_;
};

}  // namespace

MixerEntry mixer_lf_attention() {
  return plug_in<LocalizedFilterAttention, MixerEntry>("lf_attention", "arXiv:2311.15786", "attention whose queries and keys read a filter over neighbours");
}

}  // namespace switchyard
