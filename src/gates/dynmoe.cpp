// DynMoE: as many experts per token as pass their own thresholds, and as many experts as the tokens need.
//   s_i = sigmoid(cos(x, w_i)),   i works for x  <=>  s_i > sigmoid(G_i) and i is live,   y = (1 / n) sum over the n working E_i(x)
// The choice is a sign whose backward pass is the identity (straight-through). In training a token that nobody passes for
// is left to the residual path; outside training it goes to its best live expert.
// Every `period` optimiser steps: live experts that no token of the period chose go to sleep; if some tokens were left
// alone, one sleeping expert wakes with w = the direction of their sum and G = 0. num_experts is the room there is.
// Terms (loss gate_term), over the L live experts: "diversity" = || W^ W^T - I ||_F, "simplicity" = mean of ||w_i||; and those of
// the released code, on the signs g_ti with their straight-through gradient: "efficiency" = mean of g, "balance" = L sum_i m_i c_i
// with m the mean of g_t / n_t and c the share of working pairs, over tokens that somebody works for.
// dy / dg_i = E_i(x) / n as released: n counts as a constant, so that the task asks for more of every expert that helps at all,
// and nothing but "efficiency" sends one away. With through_count n = sum of g has its slope, dy / dg_i = (E_i(x) - y) / n:
// experts that are better than the mean stay, others go (our own variant).
// The moments that the optimiser keeps of a woken expert's row are those of its earlier life.
// Source: Guo et al., arXiv:2405.14297 sections 3.1 to 3.3.
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace switchyard {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

class DynMoE final : public Gate {
 public:
  struct Options {
    int64_t start = 0, period = 100;
    bool through_count = false;
    template <class V> void fields(V&& v) {
      v("start", start, "experts that are live at the start; 0 = all");
      v("period", period, "optimiser steps between changes of the set of live experts; 0 = it stays");
      v("through_count", through_count, "the straight-through slope passes through 1 / n, too; false: as released");
    }
  };

  DynMoE(const Options& o, const GateShape& s) : o_(o), num_experts_(s.num_experts) {
    if (o.start < 0 || o.start > s.num_experts) fail(ErrorKind::config, "gate dynmoe: start = {} in layers.{}.ffn, expected 0 to num_experts = {}", o.start, s.layer, s.num_experts);
    if (o.period < 0) fail(ErrorKind::config, "gate dynmoe: period = {}, expected 0 or more", o.period);
    auto w = torch::empty({num_experts_, s.d_model});
    RandomStream(s.seed).at("router", static_cast<uint64_t>(s.layer)).fill_normal(w.data_ptr<float>(), w.numel());
    weight_ = register_parameter("weight", w / std::sqrt(static_cast<double>(s.d_model)));
    threshold_ = register_parameter("threshold", torch::zeros({num_experts_}));
    live_ = register_buffer("live", (torch::arange(num_experts_) < (o.start > 0 ? o.start : num_experts_)).to(torch::kFloat32));
    chosen_ = register_buffer("chosen", torch::zeros({num_experts_}));
    alone_ = register_buffer("alone", torch::zeros({s.d_model}));
    steps_ = register_buffer("steps", torch::zeros({1}));
  }

  Routing route(const GateInput& in) override {
    const auto x = in.hidden.scalar_type() == torch::kFloat64 ? in.hidden : in.hidden.to(torch::kFloat32);
    // The product first, then the lengths of the tokens: no copy of the tokens is made.
    const auto cosine = ops::linear(x, direction(weight_), /*exact=*/true) / length(x);  // [T, E]
    const auto margin = at::sigmoid(cosine) - at::sigmoid(threshold_);             // [T, E]
    const auto live = live_ > 0;
    const auto works = (margin.detach() > 0) & live;
    Routing out{.choice = choose(margin, works, in.training), .scores = {cosine.masked_fill(~live, kNever), {}}};
    out.scores.probs = at::softmax(out.scores.logits, -1);
    out.terms = terms(margin, works, in.valid);
    auto alone = ~works.any(1);
    if (in.valid.defined()) alone = alone & in.valid;
    out.terms["alone"] = at::matmul(alone.to(x.scalar_type()), x.detach());  // [d], for update()
    return out;
  }

  void update(const RoutingStats& stats) override {
    const c10::NoGradGuard no_grad;
    if (o_.period == 0) return;
    chosen_ += stats.counts.to(chosen_.scalar_type());
    if (const auto found = stats.terms.find("alone"); found != stats.terms.end()) alone_ += found->second.to(alone_.scalar_type());
    steps_ += 1;
    if (steps_.item<float>() < static_cast<float>(o_.period)) return;
    prune();
    grow();
    chosen_.zero_();
    alone_.zero_();
    steps_.zero_();
  }

  // Of a trained gate the number depends on the tokens; about half of the experts pass at the start.
  double experts_per_token() const override { return std::max(1.0, live_.sum().item<double>() / 2); }

 private:
  static torch::Tensor length(const torch::Tensor& x) { return x.norm(2, -1, /*keepdim=*/true).clamp_min(1e-12); }
  static torch::Tensor direction(const torch::Tensor& x) { return x / length(x); }

  [[nodiscard]] TokenChoice choose(const torch::Tensor& margin, const torch::Tensor& works, bool training) const {
    auto ids = ops::top_k(margin.detach().masked_fill(~works, kNever).contiguous(), num_experts_);
    if (!training) {
      const auto best = ops::top_k(margin.detach().masked_fill(live_ <= 0, kNever).contiguous(), 1);
      ids.select(1, 0).copy_(at::where(ids.select(1, 0) >= 0, ids.select(1, 0), best.select(1, 0)));
    }
    const auto sent = ids >= 0;
    const int64_t most = ids.numel() == 0 ? 1 : std::max<int64_t>(1, sent.sum(1).max().item<int64_t>());
    ids = ids.slice(1, 0, most).contiguous();
    const auto one = (ids >= 0).to(margin.scalar_type());
    const auto slope = at::relu(margin).gather(1, ids.clamp_min(0)).masked_fill(ids < 0, 0);
    const auto count = one.sum(1, /*keepdim=*/true).clamp_min(1);
    const auto g = one + slope - slope.detach();
    return {ids, g / (o_.through_count ? g.sum(1, /*keepdim=*/true).clamp_min(1) : count)};
  }

  [[nodiscard]] std::map<std::string, torch::Tensor> terms(const torch::Tensor& margin, const torch::Tensor& works, const torch::Tensor& valid) const {
    const auto alive = at::nonzero(live_).view({-1});
    const auto w = weight_.index_select(0, alive);
    const auto gram = at::matmul(direction(w), direction(w).t()) - at::eye(w.size(0), w.options());
    const auto one = (valid.defined() ? works & valid.unsqueeze(1) : works).to(margin.scalar_type()).index_select(1, alive);
    const auto slope = at::relu(margin).index_select(1, alive) * one;
    const auto g = one + slope - slope.detach();                                       // [T, L]
    const double tokens = valid.defined() ? valid.sum().item<double>() : static_cast<double>(one.size(0));
    const auto served = one.any(1).sum().clamp_min(1);
    const auto shares = (g / g.sum(1, /*keepdim=*/true).clamp_min(1)).sum(0) / served, working = one.sum(0) / served;
    // The diagonal is 0 up to rounding; a norm has no gradient at 0.
    return {{"diversity", (gram.square().sum() + 1e-12).sqrt()},
            {"simplicity", w.norm(2, -1).mean()},
            {"efficiency", g.sum() / (std::max(1.0, tokens) * static_cast<double>(alive.size(0)))},
            {"balance", (shares * working).sum() * static_cast<double>(alive.size(0))}};
  }

  void prune() {
    const auto keep = (live_ > 0) & (chosen_ > 0);
    if (keep.any().item<bool>()) live_.copy_(keep.to(live_.scalar_type()));
  }

  void grow() {
    const auto asleep = at::nonzero(live_ <= 0).view({-1});
    if (asleep.size(0) == 0 || alone_.abs().sum().item<double>() == 0) return;
    const int64_t e = asleep[0].item<int64_t>();
    weight_[e].copy_(direction(alone_).to(weight_.scalar_type()));
    threshold_[e] = 0;
    live_[e] = 1;
  }

  Options o_;
  int64_t num_experts_;
  torch::Tensor weight_, threshold_;             // [E, d], [E]
  torch::Tensor live_, chosen_, alone_, steps_;  // [E], [E], [d], [1]
};

}  // namespace

GateEntry gate_dynmoe() {
  return plug_in<DynMoE, GateEntry>("dynmoe", "arXiv:2405.14297", "every expert whose threshold the token passes; experts wake and sleep");
}

}  // namespace switchyard
