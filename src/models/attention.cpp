#include "models/attention.h"

#include "core/ops.h"
#include "models/initial_weights.h"

#include <cmath>

namespace switchyard {

Attention::Attention(const ModelSpec& spec, const RandomStream* init) : num_heads_(spec.num_heads), num_kv_heads_(spec.num_kv_heads), head_dim_(spec.head_dim), causal_(spec.causal) {
  const int64_t d = spec.d_model, q = num_heads_ * head_dim_, kv = num_kv_heads_ * head_dim_;
  q_proj_ = register_parameter("q_proj", normal_weight(init, "q_proj", {q, d}, spec.init_std));
  k_proj_ = register_parameter("k_proj", normal_weight(init, "k_proj", {kv, d}, spec.init_std));
  v_proj_ = register_parameter("v_proj", normal_weight(init, "v_proj", {kv, d}, spec.init_std));
  o_proj_ = register_parameter("o_proj", normal_weight(init, "o_proj", {d, q}, residual_std(spec)));
}

torch::Tensor Attention::forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, const SiteHook& hook) {
  const int64_t batch = x.size(0), seq = x.size(1);
  const auto heads = [&](const char* site, const torch::Tensor& weight, int64_t count) {
    return at_site(hook, site, x, ops::linear(x, weight)).view({batch, seq, count, head_dim_});
  };
  const auto turn = [&](const torch::Tensor& t) { return ops::rope(t, call.positions, call.rotary.cos, call.rotary.sin); };
  const auto q = turn(heads("attn.q", q_proj_, num_heads_));
  auto k = turn(heads("attn.k", k_proj_, num_kv_heads_));
  auto v = heads("attn.v", v_proj_, num_kv_heads_);
  if (cache) {
    cache->keys.narrow(1, cache->length, seq).copy_(k);
    cache->values.narrow(1, cache->length, seq).copy_(v);
    k = cache->keys.narrow(1, 0, cache->length + seq);
    v = cache->values.narrow(1, 0, cache->length + seq);
  }
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim_));
  const auto out = ops::attention(q, k, v, call.q_segments, call.k_segments, scale, causal_);  // [B, S, H, c]
  const auto joined = out.reshape({batch, seq, num_heads_ * head_dim_});
  return at_site(hook, "attn.o", joined, ops::linear(joined, o_proj_));
}

std::vector<Site> Attention::sites(const ModelSpec& s) {
  const int64_t d = s.d_model, q = s.num_heads * s.head_dim, kv = s.num_kv_heads * s.head_dim;
  return {{"attn.q", d, q, s.num_heads}, {"attn.k", d, kv, s.num_kv_heads}, {"attn.v", d, kv, s.num_kv_heads}, {"attn.o", q, d}};
}

}  // namespace switchyard
