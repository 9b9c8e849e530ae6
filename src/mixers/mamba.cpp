// A selective state space: each of e = expand * d channels keeps d_state numbers, which what it reads moves and forgets.
//
//   [u; z] = x W_in^T     u = silu(conv(u))      [r; B; C] = u W_x^T      delta = softplus(r W_dt^T + b_dt)
//   h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t      y = (C . h + D u) * silu(z)      out = y W_out^T      A = -exp(A_log)
//
// conv is causal over `d_conv` tokens of each channel by itself. Texts of one row do not see each other: neither the convolution
// nor the state passes a border. The cache holds the last d_conv - 1 inputs of the convolution and the state, whatever the length.
// With inner_norm r, B and C are normed (Jamba, arXiv:2403.19887). Source: Mamba, arXiv:2312.00752.
#include "core/beside.h"
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/mixer.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {
namespace {

class Mamba final : public Mixer {
 public:
  struct Options {
    int64_t d_state = 16, d_conv = 4, expand = 2, dt_rank = 0;
    bool conv_bias = true, proj_bias = false, inner_norm = true;
    template <class V> void fields(V&& v) {
      v("d_state", d_state, "numbers of state per channel");
      v("d_conv", d_conv, "tokens that the convolution sees");
      v("expand", expand, "channels per dimension of the model");
      v("dt_rank", dt_rank, "width in front of the time steps; 0 = d_model / 16, rounded up");
      v("conv_bias", conv_bias, "the convolution has a bias");
      v("proj_bias", proj_bias, "the projections in and out have biases");
      v("inner_norm", inner_norm, "RMSNorm of time step, B and C");
    }
  };

  Mamba(const Options& o, const MixerShape& s) : o_(o), s_(s), channels_(o.expand * s.d_model), rank_(o.dt_rank > 0 ? o.dt_rank : (s.d_model + 15) / 16) {
    for (const auto& [key, value] : {std::pair{"d_state", o.d_state}, {"d_conv", o.d_conv}, {"expand", o.expand}})
      if (value < 1) fail(ErrorKind::config, "mixer mamba: {} = {}, expected at least 1", key, value);
    if (o.dt_rank < 0) fail(ErrorKind::config, "mixer mamba: dt_rank = {}, expected 0 or more", o.dt_rank);
    if (!s.causal) fail(ErrorKind::config, "mixer mamba: a state space goes from left to right; it needs model.causal = true");
    const int64_t d = s.d_model, e = channels_, n = o.d_state;
    const auto matrix = [&](const char* name, int64_t rows, int64_t columns, double std) { return register_parameter(name, s.weight(name, {rows, columns}, std)); };
    const auto vector = [&](const char* name, int64_t size, double value) { return register_parameter(name, s.constant({size}, value)); };
    in_proj_ = matrix("in_proj", 2 * e, d, s.init_std);
    conv_ = register_parameter("conv", s.weight("conv", {e, 1, o.d_conv}, 1 / std::sqrt(static_cast<double>(o.d_conv))));
    if (o.conv_bias) conv_bias_ = vector("conv_bias", e, 0);
    x_proj_ = matrix("x_proj", rank_ + 2 * n, e, s.init_std);
    dt_proj_ = matrix("dt_proj", e, rank_, 1 / std::sqrt(static_cast<double>(rank_)));
    dt_bias_ = register_parameter("dt_bias", s.sizes_only || !s.seed ? s.constant({e}, 0) : initial_steps());
    // A = -1, -2 ... -N in every channel (S4D-real, arXiv:2206.11893).
    a_log_ = register_parameter("a_log", s.sizes_only ? s.constant({e, n}, 0) : torch::arange(1, n + 1, torch::kFloat32).log().repeat({e, 1}));
    d_ = vector("d", e, 1);
    out_proj_ = matrix("out_proj", d, e, s.init_out_std);
    if (o.proj_bias) in_bias_ = vector("in_proj_bias", 2 * e, 0), out_bias_ = vector("out_proj_bias", d, 0);
    if (o.inner_norm) dt_norm_ = vector("dt_norm", rank_, 1), b_norm_ = vector("b_norm", n, 1), c_norm_ = vector("c_norm", n, 1);
  }

  torch::Tensor forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, MixerTrace&, const SiteHook&) override {
    const auto projected = plus(ops::linear(x, in_proj_), in_bias_);
    const auto parts = projected.split(channels_, -1);
    const auto valid = call.valid.defined() ? call.valid.view({x.size(0), x.size(1), 1}).to(x.device(), x.scalar_type()) : torch::Tensor();
    const auto masked = [&](const torch::Tensor& t) { return valid.defined() ? t * valid : t; };
    const auto segments = segments_of(x, call, cache);  // [B, K - 1 + S]; undefined = one text
    const auto u = masked(at::silu(plus(convolved(masked(parts[0]), segments, cache), conv_bias_)));
    const auto small = ops::linear(u, x_proj_).split_with_sizes({rank_, o_.d_state, o_.d_state}, -1);
    const auto delta = at::softplus(ops::linear(normed(small[0], dt_norm_), dt_proj_) + dt_bias_);
    const auto b = normed(small[1], b_norm_), c = normed(small[2], c_norm_), a = -at::exp(a_log_);
    const auto reset = segments.defined() ? borders(segments, x.size(1)) : torch::Tensor();
    const auto y = cache ? ops::selective_scan_step(u, delta, a, b, c, d_, reset, cache->state[1]) : ops::selective_scan(u, delta, a, b, c, d_, reset);
    return plus(ops::linear(y * at::silu(parts[1]), out_proj_), out_bias_);
  }

  std::vector<Packable> packable() const override { return {{in_proj_}, {out_proj_}}; }

  std::vector<torch::Tensor> new_state(int64_t batch, int64_t) const override {
    return {torch::zeros({batch, o_.d_conv - 1, channels_}), torch::zeros({batch, channels_, o_.d_state})};
  }
  double flops_per_token(double) const override {
    const auto e = static_cast<double>(channels_);
    return 2.0 * static_cast<double>(in_proj_.numel() + x_proj_.numel() + dt_proj_.numel() + out_proj_.numel() + conv_.numel()) + 7.0 * e * static_cast<double>(o_.d_state);
  }

 private:
  static torch::Tensor plus(const torch::Tensor& y, const torch::Tensor& bias) { return bias.defined() ? y + bias : y; }
  [[nodiscard]] torch::Tensor normed(const torch::Tensor& x, const torch::Tensor& weight) const {
    return weight.defined() ? ops::rms_norm(x.contiguous(), weight, s_.norm_eps) : x;
  }

  // softplus(b) is spread evenly in the logarithm over 0.001 ... 0.1 (arXiv:2312.00752 appendix).
  [[nodiscard]] torch::Tensor initial_steps() const {
    auto u = torch::empty({channels_}, torch::kFloat32);
    RandomStream(*s_.seed, "init").at("layer", static_cast<uint64_t>(s_.layer)).at("dt_bias").fill_uniform(u.data_ptr<float>(), u.numel());
    const auto dt = at::exp(u * std::log(100.0) + std::log(1e-3));
    return dt + at::log(-at::expm1(-dt));
  }

  // Of the tokens and of the K - 1 before them; -2 in front of the text.
  [[nodiscard]] torch::Tensor segments_of(const torch::Tensor& x, const CallContext& call, const LayerCache* cache) const {
    if (!call.k_segments.defined()) return {};
    const int64_t before = cache ? cache->length : 0, first = std::max<int64_t>(0, before - (o_.d_conv - 1));
    const auto known = beside(x, call.k_segments.slice(1, first, before + x.size(1)));
    return at::constant_pad_nd(known, {o_.d_conv - 1 - (before - first), 0}, -2);
  }
  // Where a text begins: before it the state is nothing.
  [[nodiscard]] torch::Tensor borders(const torch::Tensor& segments, int64_t seq) const {
    if (o_.d_conv < 2) return {};
    const int64_t last = segments.size(1);
    return (segments.slice(1, last - seq, last) != segments.slice(1, last - seq - 1, last - 1)).contiguous();
  }

  // Channel by channel over the token and the K - 1 before it, of the same text.
  torch::Tensor convolved(const torch::Tensor& u, const torch::Tensor& segments, LayerCache* cache) const {
    const int64_t before = o_.d_conv - 1, seq = u.size(1);
    const auto all = at::cat({cache ? cache->state[0] : torch::zeros({u.size(0), before, channels_}, u.options()), u}, 1);
    torch::Tensor out;
    for (int64_t tap = 0; tap < o_.d_conv; ++tap) {
      auto term = all.narrow(1, tap, seq) * conv_.select(1, 0).select(1, tap);
      if (segments.defined()) term = term * (segments.narrow(1, tap, seq) == segments.narrow(1, before, seq)).unsqueeze(-1).to(u.scalar_type());
      out = out.defined() ? out + term : term;
    }
    if (cache) cache->state[0].copy_(all.narrow(1, seq, before));
    return out;
  }

  Options o_;
  MixerShape s_;
  int64_t channels_, rank_;
  torch::Tensor in_proj_, in_bias_, conv_, conv_bias_, x_proj_, dt_proj_, dt_bias_, a_log_, d_, out_proj_, out_bias_, dt_norm_, b_norm_, c_norm_;
};

}  // namespace

MixerEntry mixer_mamba() { return plug_in<Mamba, MixerEntry>("mamba", "arXiv:2312.00752", "a selective state space: memory of one size, whatever the length"); }

}  // namespace switchyard
