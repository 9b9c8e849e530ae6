// Attention of a decoder to what its encoder made of the source (arXiv:1706.03762 section 3.2.3): queries come from x, keys and values
// from the memory m [B, Sm, d], of which all tokens but padding are seen.
//
//   q = x W_q^T + b_q,  k, v = m W_k^T + b_k, m W_v^T + b_v       a = softmax(q k^T s) v       y = a W_o^T + b_o
//
// Neither rotary positions nor a bias per distance act here (T5, arXiv:1910.10683). With a cache keys and values are made once,
// in the first call.
#include "core/ops.h"
#include "core/projection.h"
#include "switchyard/error.h"
#include "switchyard/mixer.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {
namespace {

class CrossAttention final : public Mixer {
 public:
  struct Options {
    bool qkv_bias = false, o_bias = false;
    double scale = 0;
    template <class V> void fields(V&& v) {
      v("qkv_bias", qkv_bias, "queries, keys and values have biases");
      v("o_bias", o_bias, "the output has a bias");
      v("scale", scale, "of the scores; 0 = 1 / sqrt(head_dim)");
    }
  };

  CrossAttention(const Options& o, const MixerShape& s) : scale_(o.scale), s_(s) {
    if (!(o.scale >= 0 && std::isfinite(o.scale))) fail(ErrorKind::config, "mixer cross_attention: scale = {}, expected 0 or more", o.scale);
    const int64_t q = s.num_heads * s.head_dim, kv = s.num_kv_heads * s.head_dim;
    const auto projection = [&](const char* name, int64_t rows, int64_t columns, double std, bool bias) {
      return Projection{register_parameter(name, s.weight(name, {rows, columns}, std)),
                        bias ? register_parameter(std::string(name) + "_bias", s.constant({rows}, 0)) : torch::Tensor()};
    };
    q_proj_ = projection("q_proj", q, s.d_model, s.init_std, o.qkv_bias);
    k_proj_ = projection("k_proj", kv, s.d_model, s.init_std, o.qkv_bias);
    v_proj_ = projection("v_proj", kv, s.d_model, s.init_std, o.qkv_bias);
    o_proj_ = projection("o_proj", s.d_model, q, s.init_out_std, o.o_bias);
  }

  torch::Tensor forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, MixerTrace&, const SiteHook& hook) override {
    const int64_t batch = x.size(0), seq = x.size(1);
    const Source source = cache ? kept(call, *cache, batch, hook) : read(call, batch, hook);
    const auto q = at_site(hook, "attn.q", x, q_proj_(x)).view({batch, seq, s_.num_heads, s_.head_dim});
    const auto q_segments = source.segments.defined() ? torch::zeros({batch, seq}, torch::kInt32) : torch::Tensor();
    const auto out = ops::attention(q, source.k, source.v, q_segments, source.segments, {.scale = scale_, .causal = false, .sinks = {}, .bias = {}});
    const auto joined = out.reshape({batch, seq, s_.num_heads * s_.head_dim});
    return at_site(hook, "attn.o", joined, o_proj_(joined));
  }

  // How long the source is shows in the first call: keys [B, Sm, G, c], values, and segments [B, Sm].
  std::vector<torch::Tensor> new_state(int64_t batch, int64_t) const override {
    const auto room = torch::empty({batch, 0, s_.num_kv_heads, s_.head_dim});
    return {room, room, torch::empty({batch, 0}, torch::kInt32)};
  }
  double flops_per_token(double keys) const override {
    const auto q = static_cast<double>(s_.num_heads * s_.head_dim);
    return 2.0 * static_cast<double>(q_proj_.weight.numel() + k_proj_.weight.numel() + v_proj_.weight.numel() + o_proj_.weight.numel()) + 4.0 * q * keys;
  }
  bool reads_memory() const override { return true; }
  std::vector<Site> sites() const override {
    const int64_t d = s_.d_model, q = s_.num_heads * s_.head_dim, kv = s_.num_kv_heads * s_.head_dim;
    return {{"attn.q", d, q, s_.num_heads}, {"attn.k", d, kv, s_.num_kv_heads}, {"attn.v", d, kv, s_.num_kv_heads}, {"attn.o", q, d}};
  }

 private:
  struct Source {
    torch::Tensor k, v, segments;
  };

  Source read(const CallContext& call, int64_t batch, const SiteHook& hook) const {
    if (!call.memory.defined()) fail(ErrorKind::usage, "mixer cross_attention in layer {}: the call has no source (TokenBatch::source_ids)", s_.layer);
    const auto& m = call.memory;
    if (m.size(0) != batch) fail(ErrorKind::usage, "mixer cross_attention in layer {}: {} sources for {} texts", s_.layer, m.size(0), batch);
    const auto heads = [&](const torch::Tensor& y) { return y.view({batch, m.size(1), s_.num_kv_heads, s_.head_dim}); };
    return {heads(at_site(hook, "attn.k", m, k_proj_(m))), heads(at_site(hook, "attn.v", m, v_proj_(m))), call.memory_segments};
  }

  Source kept(const CallContext& call, LayerCache& cache, int64_t batch, const SiteHook& hook) const {
    if (cache.length == 0) {
      const Source made = read(call, batch, hook);
      cache.state = {made.k, made.v, made.segments.defined() ? made.segments : torch::zeros({batch, made.k.size(1)}, torch::kInt32)};
    }
    return {cache.state[0], cache.state[1], cache.state[2]};
  }

  double scale_;
  MixerShape s_;
  Projection q_proj_, k_proj_, v_proj_, o_proj_;  // [H*c, d], [G*c, d], [G*c, d], [d, H*c]
};

}  // namespace

MixerEntry mixer_cross_attention() {
  return plug_in<CrossAttention, MixerEntry>("cross_attention", "arXiv:1706.03762", "attention of a decoder to the source that an encoder has read");
}

}  // namespace switchyard
