// Linear attention whose memory decays: no softmax, and a state of one size instead of keys and values.
//
//   q, k, v = silu(x W_qkv^T)      o_i = sum over j <= i of lambda_h^(i - j) (q_i . k_j) v_j      y = (RMS(o) * sigmoid(x W_g^T)) W_o^T
//   lambda_h = exp(-s_h),  s_h = 2^(-8 (h + 1) / H) (1 - layer / (layers - 1) + 1e-5)
//
// Blocks of tokens: inside a block scores are made, between blocks the state K^T V [c, c] of a head goes on. Rows of W_qkv are q, k
// and v of the first head, then those of the next one. Texts of one row do not see each other.
// Source: Lightning Attention-2, arXiv:2401.04658; MiniMax-01, arXiv:2501.08313 section 2.2.
#include "core/beside.h"
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/mixer.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {
namespace {

class Lightning final : public Mixer {
 public:
  struct Options {
    int64_t block = 256;
    double norm_eps = 0;
    template <class V> void fields(V&& v) {
      v("block", block, "tokens whose scores are made at a time; results do not depend on it");
      v("norm_eps", norm_eps, "of the norm behind the sum; 0 = the model's");
    }
  };

  Lightning(const Options& o, const MixerShape& s) : block_(o.block), norm_eps_(o.norm_eps > 0 ? o.norm_eps : s.norm_eps), s_(s) {
    if (o.block < 1) fail(ErrorKind::config, "mixer lightning: block = {}, expected at least 1", o.block);
    if (!(o.norm_eps >= 0)) fail(ErrorKind::config, "mixer lightning: norm_eps = {}, expected 0 or more", o.norm_eps);
    if (!s.causal) fail(ErrorKind::config, "mixer lightning: a state goes from left to right; it needs model.causal = true");
    const int64_t d = s.d_model, width = s.num_heads * s.head_dim;
    qkv_proj_ = register_parameter("qkv_proj", s.weight("qkv_proj", {3 * width, d}, s.init_std));
    output_gate_ = register_parameter("output_gate", s.weight("output_gate", {width, d}, s.init_std));
    out_proj_ = register_parameter("out_proj", s.weight("out_proj", {d, width}, s.init_out_std));
    norm_ = register_parameter("norm", s.constant({width}, 1));
    const double layers = static_cast<double>(s.num_layers), depth = 1 - static_cast<double>(s.layer) / (layers - 1 + 1e-5) + 1e-5;
    for (int64_t h = 0; h < s.num_heads; ++h) slope_.push_back(std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(s.num_heads)) * depth);
  }

  torch::Tensor forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, MixerTrace&, const SiteHook&) override {
    const int64_t batch = x.size(0), seq = x.size(1), c = s_.head_dim;
    const auto qkv = at::silu(ops::linear(x, qkv_proj_)).view({batch, seq, s_.num_heads, 3 * c}).transpose(1, 2);  // [B, H, S, 3c]
    const auto q = qkv.slice(-1, 0, c), k = qkv.slice(-1, c, 2 * c);
    auto v = qkv.slice(-1, 2 * c, 3 * c);
    if (call.valid.defined()) v = v * call.valid.view({batch, 1, seq, 1}).to(v.device(), v.scalar_type());
    const auto segment = beside(x, call.q_segments.defined() ? call.q_segments : torch::zeros({batch, seq}, torch::kInt32));
    State state{cache ? cache->state[0] : torch::zeros({batch, s_.num_heads, c, c}, x.options()), cache ? cache->state[1] : segment.select(1, 0)};
    if (cache && cache->length == 0) state.segment = segment.select(1, 0);
    std::vector<torch::Tensor> out;
    for (int64_t first = 0; first < seq; first += block_) {
      const int64_t last = std::min(first + block_, seq);
      const auto part = [&](const torch::Tensor& t) { return t.slice(2, first, last); };
      out.push_back(block(part(q), part(k), part(v), segment.slice(1, first, last), state));
    }
    if (cache) cache->state[0].copy_(state.memory), cache->state[1].copy_(state.segment);
    const auto o = at::cat(out, 2).transpose(1, 2).reshape({batch, seq, s_.num_heads * c});
    return ops::linear(ops::rms_norm(o, norm_, norm_eps_) * at::sigmoid(ops::linear(x, output_gate_)), out_proj_);
  }

  std::vector<Packable> packable() const override { return {{qkv_proj_}, {output_gate_}, {out_proj_}}; }

  std::vector<torch::Tensor> new_state(int64_t batch, int64_t) const override {
    return {torch::zeros({batch, s_.num_heads, s_.head_dim, s_.head_dim}), torch::zeros({batch}, torch::kInt32)};
  }
  double flops_per_token(double) const override {
    const auto c = static_cast<double>(s_.head_dim), h = static_cast<double>(s_.num_heads);
    return 2.0 * static_cast<double>(qkv_proj_.numel() + output_gate_.numel() + out_proj_.numel()) + h * (4 * c * c + 2 * c * static_cast<double>(block_));
  }

 private:
  struct State {
    torch::Tensor memory;   // [B, H, c, c]
    torch::Tensor segment;  // [B] int32: of the text that it remembers
  };

  // lambda_h^n for the exponents n [...] -> [H, ...], where x lies and of its dtype.
  [[nodiscard]] torch::Tensor decay(const torch::Tensor& n, const torch::Tensor& x) const {
    auto slopes = torch::tensor(slope_, torch::kFloat64);
    for (int64_t i = 0; i < n.dim(); ++i) slopes = slopes.unsqueeze(-1);
    return at::exp(-slopes * n.unsqueeze(0).to(torch::kFloat64)).to(x.device(), x.scalar_type());
  }

  torch::Tensor block(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, const torch::Tensor& segment, State& state) const {
    const int64_t count = q.size(2);
    const auto place = torch::arange(count, torch::kInt64);
    const auto distance = place.unsqueeze(1) - place.unsqueeze(0);
    const auto seen = ((segment.unsqueeze(2) == segment.unsqueeze(1)) & beside(q, distance >= 0)).unsqueeze(1);  // [B, 1, S, S]
    const auto scores = at::matmul(q, k.transpose(-1, -2)) * decay(distance.clamp_min(0), q);
    auto o = at::matmul(scores.masked_fill(~seen, 0), v);
    const auto remembers = (segment == state.segment.unsqueeze(1)).view({-1, 1, count, 1}).to(q.scalar_type());
    o = o + at::matmul(q * decay(place + 1, q).unsqueeze(-1) * remembers, state.memory);
    const auto last = segment.select(1, count - 1);
    const auto fresh = (segment == last.unsqueeze(1)).view({-1, 1, count, 1}).to(q.scalar_type());
    const auto goes_on = (last == state.segment).view({-1, 1, 1, 1}).to(q.scalar_type());
    const auto old = state.memory * decay(torch::full({1, 1}, count, torch::kInt64), q) * goes_on;
    state.memory = old + at::matmul((k * decay(count - 1 - place, q).unsqueeze(-1) * fresh).transpose(-1, -2), v);
    state.segment = last;
    return o;
  }

  int64_t block_;
  double norm_eps_;
  MixerShape s_;
  std::vector<double> slope_;  // by head
  torch::Tensor qkv_proj_, output_gate_, out_proj_, norm_;
};

}  // namespace

MixerEntry mixer_lightning() { return plug_in<Lightning, MixerEntry>("lightning", "arXiv:2501.08313", "linear attention with a decaying state of one size"); }

}  // namespace switchyard
