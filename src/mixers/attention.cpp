// Softmax attention, causal or not: G key and value heads serve H query heads in equal groups (G = H multi-head, 1 < G < H
// grouped-query, G = 1 multi-query; arXiv:2305.13245), turned by rotary positions (arXiv:2104.09864).
//
//   q, k, v = x W_q^T + b_q, x W_k^T + b_k, x W_v^T + b_v       a = softmax(q k^T s) v       y = a W_o^T + b_o
//
// Options are what published models add: biases, RMSNorm of queries and keys per head (arXiv:2302.05442) or over the whole
// projection, values of q, k and v clipped, a window (arXiv:2004.05150), a cap of the scores, sinks (arXiv:2309.17453).
#include "core/ops.h"
#include "core/paged_cache.h"
#include "core/projection.h"
#include "core/rotate_heads.h"
#include "switchyard/error.h"
#include "switchyard/mixer.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {
namespace {

class Attention final : public Mixer {
 public:
  struct Options {
    bool qkv_bias = false, o_bias = false, sinks = false, rotary = true;
    std::string qk_norm = "none";
    double scale = 0, clip_qkv = 0, logit_cap = 0;
    int64_t window = 0;
    template <class V> void fields(V&& v) {
      v("qkv_bias", qkv_bias, "queries, keys and values have biases");
      v("o_bias", o_bias, "the output has a bias");
      v("qk_norm", qk_norm, "RMSNorm of queries and keys: none, head (each head by itself), full (all heads together)");
      v("scale", scale, "of the scores; 0 = 1 / sqrt(head_dim)");
      v("clip_qkv", clip_qkv, "q, k and v are clipped to -c .. c; 0 = not");
      v("logit_cap", logit_cap, "scores become cap * tanh(score / cap); 0 = not");
      v("window", window, "a token sees itself and so many tokens before it, less one; 0 = all");
      v("sinks", sinks, "a learned score per head that takes its share of the softmax");
      v("rotary", rotary, "positions turn queries and keys, if the model has rotary positions");
    }
  };

  Attention(const Options& o, const MixerShape& s) : o_(o), s_(s) {
    if (o.qk_norm != "none" && o.qk_norm != "head" && o.qk_norm != "full") fail(ErrorKind::config, "mixer attention: qk_norm = '{}', expected none, head or full", o.qk_norm);
    for (const auto& [key, value] : {std::pair{"scale", o.scale}, {"clip_qkv", o.clip_qkv}, {"logit_cap", o.logit_cap}})
      if (!(value >= 0 && std::isfinite(value))) fail(ErrorKind::config, "mixer attention: {} = {}, expected 0 or more", key, value);
    if (o.window < 0) fail(ErrorKind::config, "mixer attention: window = {}, expected 0 or more", o.window);
    const int64_t d = s.d_model, c = s.head_dim, q = s.num_heads * c, kv = s.num_kv_heads * c;
    const auto projection = [&](const char* name, int64_t rows, int64_t columns, double std, bool bias) {
      return Projection{register_parameter(name, s.weight(name, {rows, columns}, std)),
                        bias ? register_parameter(std::string(name) + "_bias", s.constant({rows}, 0)) : torch::Tensor()};
    };
    q_proj_ = projection("q_proj", q, d, s.init_std, o.qkv_bias);
    k_proj_ = projection("k_proj", kv, d, s.init_std, o.qkv_bias);
    v_proj_ = projection("v_proj", kv, d, s.init_std, o.qkv_bias);
    o_proj_ = projection("o_proj", d, q, s.init_out_std, o.o_bias);
    if (o.qk_norm != "none") {
      q_norm_ = register_parameter("q_norm", s.constant({o.qk_norm == "head" ? c : q}, 1));
      k_norm_ = register_parameter("k_norm", s.constant({o.qk_norm == "head" ? c : kv}, 1));
    }
    if (o.sinks) sinks_ = register_parameter("sinks", s.constant({s.num_heads}, 0));
  }

  torch::Tensor forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, MixerTrace&, const SiteHook& hook) override {
    const int64_t batch = x.size(0), seq = x.size(1);
    const auto heads = [&](const char* site, const Projection& p, int64_t count, const torch::Tensor& norm) {
      auto y = at_site(hook, site, x, p(x));
      if (o_.clip_qkv > 0) y = y.clamp(-o_.clip_qkv, o_.clip_qkv);
      if (norm.defined() && o_.qk_norm == "full") y = ops::rms_norm(y, norm, s_.norm_eps);
      y = y.view({batch, seq, count, s_.head_dim});
      return norm.defined() && o_.qk_norm == "head" ? ops::rms_norm(y, norm, s_.norm_eps) : y;
    };
    const auto turn = [&](const torch::Tensor& t) { return rotate_heads(t, call, 0, rotary_dims(), s_.adjacent_pairs); };
    const auto q = turn(heads("attn.q", q_proj_, s_.num_heads, q_norm_));
    auto k = turn(heads("attn.k", k_proj_, s_.num_kv_heads, k_norm_));
    auto v = heads("attn.v", v_proj_, s_.num_kv_heads, {});
    if (cache) {
      k = append(cache->state[0], cache->length, k);
      v = append(cache->state[1], cache->length, v);
    }
    if (call.paged) {
      const auto joined = call.paged->attend(s_.layer, q, k, v, o_.scale, o_.window).view({batch, seq, s_.num_heads * s_.head_dim});
      return at_site(hook, "attn.o", joined, o_proj_(joined));
    }
    const auto out = ops::attention(q, k, v, call.q_segments, call.k_segments,
                                    {.scale = o_.scale, .causal = s_.causal, .window = o_.window, .logit_cap = o_.logit_cap, .sinks = sinks_, .bias = call.position_bias});
    const auto joined = out.reshape({batch, seq, s_.num_heads * s_.head_dim});
    return at_site(hook, "attn.o", joined, o_proj_(joined));
  }

  std::vector<torch::Tensor> new_state(int64_t batch, int64_t capacity) const override {
    const auto room = torch::empty({batch, capacity, s_.num_kv_heads, s_.head_dim});
    return {room, torch::empty_like(room)};
  }
  double flops_per_token(double keys) const override {
    const auto q = static_cast<double>(s_.num_heads * s_.head_dim);
    return 2.0 * static_cast<double>(q_proj_.weight.numel() + k_proj_.weight.numel() + v_proj_.weight.numel() + o_proj_.weight.numel()) + 4.0 * q * keys;
  }
  int64_t rotary_dims() const override { return !s_.rotary || !o_.rotary ? 0 : s_.rotary_dims > 0 ? s_.rotary_dims : s_.head_dim; }
  bool pages() const override { return s_.causal && !o_.sinks && o_.logit_cap == 0; }
  std::vector<Packable> packable() const override { return {{q_proj_.weight}, {k_proj_.weight}, {v_proj_.weight}, {o_proj_.weight}}; }
  std::vector<Site> sites() const override {
    const int64_t d = s_.d_model, q = s_.num_heads * s_.head_dim, kv = s_.num_kv_heads * s_.head_dim;
    return {{"attn.q", d, q, s_.num_heads}, {"attn.k", d, kv, s_.num_kv_heads}, {"attn.v", d, kv, s_.num_kv_heads}, {"attn.o", q, d}};
  }

 private:
  Options o_;
  MixerShape s_;
  Projection q_proj_, k_proj_, v_proj_, o_proj_;  // [H*c, d], [G*c, d], [G*c, d], [d, H*c]
  torch::Tensor q_norm_, k_norm_, sinks_;
};

}  // namespace

MixerEntry mixer_attention() {
  return plug_in<Attention, MixerEntry>("attention", "arXiv:2305.13245", "softmax attention with grouped key and value heads");
}

}  // namespace switchyard
