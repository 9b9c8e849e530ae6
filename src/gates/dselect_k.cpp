// DSelect-k: k selectors, each a binary code of m = ceil(log2 E) bits that a smooth step turns into a differentiable choice
//   S(t) = 0 for t <= -g/2, 1 for t >= g/2, else -2 t^3 / g^3 + 3 t / (2 g) + 1/2
//   r^s_i = prod_b (bit b of i ? S(z^s_b) : 1 - S(z^s_b)),   alpha = softmax(a),   q_i = sum_s alpha_s r^s_i
// Most significant bit first. Training is dense until the codes settle at 0 and 1; then at most k experts are left, and
// those with q = 0 exactly are not computed. Codes: free parameters (static), or z = x Omega + b, a = x A + c (per token).
// Terms (loss gate_term): "entropy" = sum over tokens and selectors of H(r^s), which pushes codes to 0 and 1; "reach" = sum of
// 1 / sum_{i<E} r^s_i, which keeps weight on the codes that name an expert when E is no power of two.
// Source: Hazimeh et al., arXiv:2106.03760 sections 3 and 4.
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

namespace switchyard {
namespace {

int64_t bits_for(int64_t experts) {
  int64_t bits = 1;
  while ((int64_t{1} << bits) < experts) ++bits;
  return bits;
}

constexpr int64_t kBlock = 512;  // tokens routed at a time: arrays of [tokens, k, E] stay in the caches

class DSelectK final : public Gate {
 public:
  struct Options {
    int64_t k = 2;
    double gamma = 1;
    bool per_token = true;
    template <class V> void fields(V&& v) {
      v("k", k, "selectors: at most so many experts once the codes have settled");
      v("gamma", gamma, "width of the ramp of the smooth step");
      v("per_token", per_token, "codes computed from the token; false: one code for all tokens");
    }
  };

  DSelectK(const Options& o, const GateShape& s) : o_(o), num_experts_(s.num_experts), bits_(bits_for(s.num_experts)) {
    if (o.k < 1 || o.k > s.num_experts) fail(ErrorKind::config, "gate dselect_k: k = {} in layers.{}.ffn, expected 1 to num_experts = {}", o.k, s.layer, s.num_experts);
    if (!(o.gamma > 0)) fail(ErrorKind::config, "gate dselect_k: gamma = {}, expected more than 0", o.gamma);
    const auto stream = RandomStream(s.seed).at("router", static_cast<uint64_t>(s.layer));
    const auto draw = [&](const char* name, torch::IntArrayRef sizes, double half_width) {
      auto w = torch::empty(sizes);
      stream.at(name).fill_uniform(w.data_ptr<float>(), w.numel());
      return register_parameter(name, (2 * w - 1) * half_width);
    };
    // Inside the ramp: a code that starts outside it never gets gradient.
    codes_ = draw("codes", {o.k * bits_}, o.gamma / 100);
    mixture_ = draw("mixture", {o.k}, 0.05);
    if (!o.per_token) return;
    code_weight_ = draw("code_weight", {o.k * bits_, s.d_model}, o.gamma / 100);
    mixture_weight_ = draw("mixture_weight", {o.k, s.d_model}, 0.05);
  }

  Routing route(const GateInput& in) override {
    const auto x = in.hidden.scalar_type() == torch::kFloat64 ? in.hidden : in.hidden.to(torch::kFloat32);
    if (!o_.per_token) {
      const auto one = routed(codes_.unsqueeze(0), mixture_.unsqueeze(0));
      const auto for_all = [&](const torch::Tensor& row) { return row.expand({x.size(0), row.size(1)}); };
      return result(for_all(one.q), for_all(one.ids).contiguous(), for_all(one.weights), one.entropy.sum(), one.reach.sum());
    }
    std::vector<torch::Tensor> q, ids, weights, entropy, reach;
    int64_t first = 0, most = 1;
    for (const auto& tokens : x.split(kBlock)) {
      auto block = routed(codes_ + ops::linear(tokens, code_weight_, /*exact=*/true), mixture_ + ops::linear(tokens, mixture_weight_, /*exact=*/true));
      if (in.valid.defined()) {
        const auto valid = in.valid.slice(0, first, first + tokens.size(0));
        block.entropy = block.entropy.index({valid}), block.reach = block.reach.index({valid});
      }
      first += tokens.size(0), most = std::max(most, block.ids.size(1));
      q.push_back(block.q), ids.push_back(block.ids), weights.push_back(block.weights);
      entropy.push_back(block.entropy.sum()), reach.push_back(block.reach.sum());
    }
    for (size_t b = 0; b < ids.size(); ++b) {
      const int64_t missing = most - ids[b].size(1);
      if (missing > 0) ids[b] = at::constant_pad_nd(ids[b], {0, missing}, -1), weights[b] = at::constant_pad_nd(weights[b], {0, missing}, 0);
    }
    return result(at::cat(q), at::cat(ids), at::cat(weights), at::stack(entropy).sum(), at::stack(reach).sum());
  }
  double experts_per_token() const override { return static_cast<double>(o_.k); }
  // With codes left over, weight can go to numbers that no expert has.
  std::string needs_term() const override { return (int64_t{1} << bits_) > std::max<int64_t>(2, num_experts_) ? "reach" : ""; }

 private:
  [[nodiscard]] torch::Tensor smooth_step(const torch::Tensor& t) const {
    const double g = o_.gamma;
    const auto inside = t.clamp(-g / 2, g / 2);  // the cubic is exactly 0 and 1 there, with slope 0
    return inside.pow(3) * (-2 / (g * g * g)) + inside * (1.5 / g) + 0.5;
  }

  [[nodiscard]] torch::Tensor selectors(const torch::Tensor& codes) const {
    const auto step = smooth_step(codes).view({-1, o_.k, bits_, 1});
    torch::Tensor r;
    for (int64_t b = 0; b < bits_; ++b) {
      const auto bit = at::bitwise_right_shift(torch::arange(num_experts_, torch::kInt64), torch::full({}, bits_ - 1 - b, torch::kInt64))
                           .remainder(2).to(step.scalar_type());                // [E]
      const auto s = step.select(2, b);                                          // [T, k, 1]
      const auto factor = s * bit + (1 - s) * (1 - bit);
      r = r.defined() ? r * factor : factor;
    }
    return r;
  }

  // q [n, E], ids and weights [n, at most E] of the experts that work (those of weight 0 do not), terms [n].
  struct Block {
    torch::Tensor q, ids, weights, entropy, reach;
  };

  [[nodiscard]] Block routed(const torch::Tensor& codes, const torch::Tensor& mixture) const {
    constexpr double kInsideLog = 1e-6;
    const auto r = selectors(codes);                                             // [n, k, E]
    const auto q = (at::softmax(mixture, -1).unsqueeze(-1) * r).sum(1);          // [n, E]
    const auto ranked = q.detach().masked_fill(q.detach() <= 0, -std::numeric_limits<float>::infinity()).contiguous();
    auto ids = ops::top_k(ranked, num_experts_);
    const int64_t most = ids.numel() == 0 ? 1 : std::max<int64_t>(1, (ids >= 0).sum(1).max().item<int64_t>());
    ids = ids.slice(1, 0, most);
    return {q, ids, q.gather(1, ids.clamp_min(0)).masked_fill(ids < 0, 0), -(r * (r + kInsideLog).log()).sum({1, 2}),
            r.sum(2).clamp_min(kInsideLog).reciprocal().sum(1)};
  }

  static Routing result(const torch::Tensor& q, const torch::Tensor& ids, const torch::Tensor& weights, const torch::Tensor& entropy, const torch::Tensor& reach) {
    Routing out{.choice = TokenChoice{ids, weights}};
    out.scores.probs = q;
    out.terms = {{"entropy", entropy}, {"reach", reach}};
    return out;
  }

  Options o_;
  int64_t num_experts_, bits_;
  torch::Tensor codes_, mixture_, code_weight_, mixture_weight_;
};

}  // namespace

GateEntry gate_dselect_k() {
  return plug_in<DSelectK, GateEntry>("dselect_k", "arXiv:2106.03760", "k selectors made of smooth binary codes, dense until they settle");
}

}  // namespace switchyard
