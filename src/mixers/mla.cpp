// Multi-head latent attention: keys and values of all heads are made from one narrow vector per token, and the cache holds that
// vector alone, with one rotary key that the heads share.
//
//   c_q = RMS(x W_qa^T)                [q_nope; q_rope]_h = c_q W_qb^T            (q_rank 0: straight from x)
//   [c_kv; k_rope] = x W_kva^T         c_kv = RMS(c_kv)        [k_nope; v]_h = c_kv W_kvb^T
//   score_h = (q_nope . k_nope + rot(q_rope) . rot(k_rope)) s      y = concat_h(softmax(score_h) v_h) W_o^T
//
// The cache takes kv_rank + rope_dim numbers per token. With few new tokens (decoding) the heads work on the latent vectors
// themselves, and W_kvb goes to the queries and to the means instead ("absorbed"): the same sums in another order.
// Source: DeepSeek-V2, arXiv:2405.04434 section 2.1.
#include "core/ops.h"
#include "core/rotate_heads.h"
#include "switchyard/error.h"
#include "switchyard/mixer.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {
namespace {

class LatentAttention final : public Mixer {
 public:
  struct Options {
    int64_t q_rank = 0, kv_rank = 64, nope_dim = 32, rope_dim = 16, v_dim = 32;
    double scale = 0, norm_eps = 0;
    bool qkv_bias = false, o_bias = false;
    std::string absorb = "auto";
    template <class V> void fields(V&& v) {
      v("q_rank", q_rank, "width of the latent vector of queries; 0 = none");
      v("kv_rank", kv_rank, "width of the latent vector of keys and values");
      v("nope_dim", nope_dim, "dimensions of a query and key head without position");
      v("rope_dim", rope_dim, "dimensions of a query and key head that positions turn");
      v("v_dim", v_dim, "dimensions of a value head");
      v("scale", scale, "of the scores; 0 = 1 / sqrt(nope_dim + rope_dim)");
      v("norm_eps", norm_eps, "of the norms of the latent vectors; 0 = the model's");
      v("qkv_bias", qkv_bias, "the projections down from x have biases");
      v("o_bias", o_bias, "the output has a bias");
      v("absorb", absorb, "heads work on latent vectors: auto (where it is less work), always, never");
    }
  };

  LatentAttention(const Options& o, const MixerShape& s) : o_(o), s_(s), norm_eps_(o.norm_eps > 0 ? o.norm_eps : s.norm_eps) {
    for (const auto& [key, value, least] : {std::tuple{"q_rank", o.q_rank, int64_t{0}}, {"kv_rank", o.kv_rank, 1}, {"nope_dim", o.nope_dim, 1}, {"rope_dim", o.rope_dim, 2}, {"v_dim", o.v_dim, 1}})
      if (value < least) fail(ErrorKind::config, "mixer mla: {} = {}, expected at least {}", key, value, least);
    if (o.rope_dim % 2 != 0) fail(ErrorKind::config, "mixer mla: rope_dim = {} is odd: rotary positions turn pairs of coordinates", o.rope_dim);
    if (!(o.scale >= 0 && std::isfinite(o.scale))) fail(ErrorKind::config, "mixer mla: scale = {}, expected 0 or more", o.scale);
    if (o.absorb != "auto" && o.absorb != "always" && o.absorb != "never") fail(ErrorKind::config, "mixer mla: absorb = '{}', expected auto, always or never", o.absorb);
    const auto matrix = [&](const char* name, int64_t rows, int64_t columns, double std) { return register_parameter(name, s.weight(name, {rows, columns}, std)); };
    const auto bias = [&](const char* name, int64_t size, bool wanted) { return wanted ? register_parameter(name, s.constant({size}, 0)) : torch::Tensor(); };
    const int64_t d = s.d_model, h = s.num_heads, qk = o.nope_dim + o.rope_dim;
    if (o.q_rank > 0) {
      q_a_ = matrix("q_a_proj", o.q_rank, d, s.init_std);
      q_a_bias_ = bias("q_a_proj_bias", o.q_rank, o.qkv_bias);
      q_norm_ = register_parameter("q_a_norm", s.constant({o.q_rank}, 1));
    }
    q_b_ = matrix("q_b_proj", h * qk, o.q_rank > 0 ? o.q_rank : d, s.init_std);
    kv_a_ = matrix("kv_a_proj", o.kv_rank + o.rope_dim, d, s.init_std);
    kv_a_bias_ = bias("kv_a_proj_bias", o.kv_rank + o.rope_dim, o.qkv_bias);
    kv_norm_ = register_parameter("kv_a_norm", s.constant({o.kv_rank}, 1));
    kv_b_ = matrix("kv_b_proj", h * (o.nope_dim + o.v_dim), o.kv_rank, s.init_std);
    out_ = matrix("o_proj", d, h * o.v_dim, s.init_out_std);
    out_bias_ = bias("o_proj_bias", d, o.o_bias);
  }

  torch::Tensor forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, MixerTrace&, const SiteHook& hook) override {
    const int64_t batch = x.size(0), seq = x.size(1), h = s_.num_heads;
    const auto below = o_.q_rank > 0 ? ops::rms_norm(plus(ops::linear(x, q_a_), q_a_bias_), q_norm_, norm_eps_) : x;
    const auto q = at_site(hook, "attn.q", below, ops::linear(below, q_b_)).view({batch, seq, h, o_.nope_dim + o_.rope_dim});
    const auto joint = plus(ops::linear(x, kv_a_), kv_a_bias_);
    auto latent = ops::rms_norm(joint.slice(-1, 0, o_.kv_rank).contiguous(), kv_norm_, norm_eps_);  // [B, S, r]
    auto k_rope = rotate_heads(joint.slice(-1, o_.kv_rank).unsqueeze(2).contiguous(), call, 0, rotary_dims(), s_.adjacent_pairs);
    const auto q_nope = q.slice(-1, 0, o_.nope_dim);
    const auto q_rope = rotate_heads(q.slice(-1, o_.nope_dim).contiguous(), call, 0, rotary_dims(), s_.adjacent_pairs);
    if (cache) {
      latent = append(cache->state[0], cache->length, latent);
      k_rope = append(cache->state[1], cache->length, k_rope);
    }
    const ops::AttentionOptions options{
        .scale = o_.scale > 0 ? o_.scale : 1 / std::sqrt(static_cast<double>(o_.nope_dim + o_.rope_dim)), .causal = s_.causal, .sinks = {}, .bias = {}};
    const auto mean = absorbs(seq, latent.size(1)) ? on_latents(q_nope, q_rope, latent, k_rope, call, options) : on_heads(q_nope, q_rope, latent, k_rope, call, options);
    const auto joined = mean.reshape({batch, seq, h * o_.v_dim});
    return at_site(hook, "attn.o", joined, plus(ops::linear(joined, out_), out_bias_));
  }

  std::vector<torch::Tensor> new_state(int64_t batch, int64_t capacity) const override {
    return {torch::empty({batch, capacity, o_.kv_rank}), torch::empty({batch, capacity, 1, o_.rope_dim})};
  }
  double flops_per_token(double keys) const override {
    double matrices = 0;
    for (const auto& p : parameters())
      if (p.dim() == 2) matrices += 2.0 * static_cast<double>(p.numel());
    return matrices + 2.0 * static_cast<double>(s_.num_heads * (o_.nope_dim + o_.rope_dim + o_.v_dim)) * keys;
  }
  int64_t rotary_dims() const override { return s_.rotary ? o_.rope_dim : 0; }
  // Not kv_b_, whose parts are taken into queries and outputs when a cache holds latents.
  std::vector<Packable> packable() const override {
    std::vector<Packable> out{{q_b_}, {kv_a_}, {out_}};
    if (o_.q_rank > 0) out.push_back({q_a_});
    return out;
  }
  std::vector<Site> sites() const override {
    const int64_t h = s_.num_heads;
    return {{"attn.q", o_.q_rank > 0 ? o_.q_rank : s_.d_model, h * (o_.nope_dim + o_.rope_dim), h}, {"attn.o", h * o_.v_dim, s_.d_model}};
  }

 private:
  static torch::Tensor plus(const torch::Tensor& y, const torch::Tensor& bias) { return bias.defined() ? y + bias : y; }

  // Multiply-adds per head: keys and values from the latent vectors, against longer dot products.
  [[nodiscard]] bool absorbs(int64_t queries, int64_t keys) const {
    if (o_.absorb != "auto") return o_.absorb == "always";
    const auto q = static_cast<double>(queries), k = static_cast<double>(keys), r = static_cast<double>(o_.kv_rank), wide = static_cast<double>(o_.nope_dim + o_.v_dim);
    return q * k * (2 * r - wide) + q * r * wide < k * r * wide;
  }

  torch::Tensor on_heads(const torch::Tensor& q_nope, const torch::Tensor& q_rope, const torch::Tensor& latent, const torch::Tensor& k_rope, const CallContext& call,
                         const ops::AttentionOptions& options) const {
    const int64_t h = s_.num_heads;
    const auto kv = ops::linear(latent, kv_b_).view({latent.size(0), latent.size(1), h, o_.nope_dim + o_.v_dim});
    const auto k = at::cat({kv.slice(-1, 0, o_.nope_dim), k_rope.expand({-1, -1, h, -1})}, -1);
    return ops::attention(at::cat({q_nope, q_rope}, -1), k, kv.slice(-1, o_.nope_dim).contiguous(), call.q_segments, call.k_segments, options);
  }

  // One key and value head of width kv_rank that all query heads share.
  torch::Tensor on_latents(const torch::Tensor& q_nope, const torch::Tensor& q_rope, const torch::Tensor& latent, const torch::Tensor& k_rope, const CallContext& call,
                           const ops::AttentionOptions& options) const {
    const auto up = kv_b_.view({s_.num_heads, o_.nope_dim + o_.v_dim, o_.kv_rank});
    const auto q = at::einsum("bshn,hnr->bshr", {q_nope, up.slice(1, 0, o_.nope_dim)});
    const auto k = at::cat({latent.unsqueeze(2), k_rope}, -1);
    const auto mean = ops::attention(at::cat({q, q_rope}, -1), k, latent.unsqueeze(2).contiguous(), call.q_segments, call.k_segments, options);  // [B, S, H, r]
    return at::einsum("bshr,hvr->bshv", {mean, up.slice(1, o_.nope_dim)});
  }

  Options o_;
  MixerShape s_;
  double norm_eps_;
  torch::Tensor q_a_, q_a_bias_, q_norm_, q_b_;      // [rq, d], [rq], [rq], [H (n + r), rq or d]
  torch::Tensor kv_a_, kv_a_bias_, kv_norm_, kv_b_;  // [rkv + r, d], [rkv + r], [rkv], [H (n + v), rkv]
  torch::Tensor out_, out_bias_;                     // [d, H v], [d]
};

}  // namespace

MixerEntry mixer_mla() {
  return plug_in<LatentAttention, MixerEntry>("mla", "arXiv:2405.04434", "multi-head latent attention: a cache of one narrow vector per token");
}

}  // namespace switchyard
