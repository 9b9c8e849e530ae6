// StableMoE: learn where tokens go, distil it into a router that sees the token id alone, freeze that one.
//   stage 1 (the first `stage_steps` optimiser steps)   expert a_t = argmax_i h_t c_i; the distilled router learns to agree
//   stage 2 and in use                                  expert a_t = argmax_i D(id_t) c^_i, fixed for good
// Both stages weigh with sigmoid(h_t c_a), so that c goes on learning how much an expert adds.
// Terms (loss gate_term), both 0 in stage 2:
//   "balance"  sum_i (n_i - n) / n * sum over the tokens of i of sigmoid(h_t c_i),  n = T / E: overloaded experts are pushed away
//   "distil"   cross-entropy of the distilled router to a_t, summed over tokens
// Needs token ids. Source: Dai et al., arXiv:2204.08396 section 3 (weights 0.3 for both terms, width 50, a tenth of training).
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

class Stable final : public Gate {
 public:
  struct Options {
    int64_t vocab_size = 0, stage_steps = 1000, width = 50;
    template <class V> void fields(V&& v) {
      v("vocab_size", vocab_size, "token ids that the distilled router knows; ids beyond it share one row");
      v("stage_steps", stage_steps, "optimiser steps before routing is frozen");
      v("width", width, "width of the distilled router's embedding");
    }
  };

  Stable(const Options& o, const GateShape& s) : o_(o), num_experts_(s.num_experts) {
    const auto refuse = [&](const char* key, int64_t value) { fail(ErrorKind::config, "gate stable: {} = {} in layers.{}.ffn, expected at least 1", key, value, s.layer); };
    if (o.vocab_size < 1) refuse("vocab_size", o.vocab_size);
    if (o.stage_steps < 1) refuse("stage_steps", o.stage_steps);
    if (o.width < 1) refuse("width", o.width);
    const auto stream = RandomStream(s.seed).at("router", static_cast<uint64_t>(s.layer));
    const auto draw = [&](const char* name, int64_t rows, int64_t columns, double scale) {
      auto w = torch::empty({rows, columns});
      stream.at(name).fill_normal(w.data_ptr<float>(), w.numel());
      return register_parameter(name, w * (scale / std::sqrt(static_cast<double>(columns))));
    };
    centroids_ = draw("centroids", s.num_experts, s.d_model, 0.1);
    words_ = draw("words", o.vocab_size + 1, o.width, 1);
    word_centroids_ = draw("word_centroids", s.num_experts, o.width, 1);
    steps_ = register_buffer("steps", torch::zeros({1}));
  }

  Routing route(const GateInput& in) override {
    if (!in.token_ids.defined()) fail(ErrorKind::usage, "gate stable: the call gives no token_ids");
    const auto x = in.hidden.scalar_type() == torch::kFloat64 ? in.hidden : in.hidden.to(torch::kFloat32);
    const auto z = ops::linear(x, centroids_, /*exact=*/true);  // [T, E]
    const bool frozen = is_frozen();
    const auto ids = ops::top_k(frozen ? distilled(in.token_ids).detach() : z.detach(), 1);
    Routing out{.choice = TokenChoice{ids, at::sigmoid(z.gather(1, ids.clamp_min(0))).masked_fill(ids < 0, 0)}, .scores = {z, at::softmax(z, -1)}};
    if (frozen) out.terms = {{"balance", torch::zeros({})}, {"distil", torch::zeros({})}};
    else out.terms = stage_1_terms(z, ids, in);
    return out;
  }

  void update(const RoutingStats&) override {
    const c10::NoGradGuard no_grad;
    if (!is_frozen()) steps_ += 1;
  }
  double experts_per_token() const override { return 1; }

 private:
  [[nodiscard]] bool is_frozen() const { return steps_.item<float>() >= static_cast<float>(o_.stage_steps); }

  [[nodiscard]] torch::Tensor distilled(const torch::Tensor& token_ids) const {
    const auto known = (token_ids >= 0) & (token_ids < o_.vocab_size);
    const auto row = at::where(known, token_ids, torch::full({}, o_.vocab_size, torch::kInt64));
    return ops::linear(words_.index_select(0, row), word_centroids_, /*exact=*/true);
  }

  [[nodiscard]] std::map<std::string, torch::Tensor> stage_1_terms(torch::Tensor z, torch::Tensor ids, const GateInput& in) const {
    auto words = distilled(in.token_ids);
    if (in.valid.defined()) z = z.index({in.valid}), ids = ids.index({in.valid}), words = words.index({in.valid});
    const auto expert = ids.clamp_min(0).select(1, 0);
    const auto counts = at::bincount(expert, {}, num_experts_).to(z.scalar_type());
    const double share = std::max(1e-9, static_cast<double>(expert.size(0)) / static_cast<double>(num_experts_));
    const auto sums = torch::zeros({num_experts_}, z.options()).index_add(0, expert, at::sigmoid(z.gather(1, expert.unsqueeze(1)).squeeze(1)));
    const auto surprise = -at::log_softmax(words, -1).gather(1, expert.unsqueeze(1)).sum();
    return {{"balance", ((counts - share) / share * sums).sum()}, {"distil", surprise}};
  }

  Options o_;
  int64_t num_experts_;
  torch::Tensor centroids_, words_, word_centroids_;  // [E, d], [V + 1, width], [E, width]
  torch::Tensor steps_;                               // [1]: optimiser steps in stage 1
};

}  // namespace

GateEntry gate_stable() {
  return plug_in<Stable, GateEntry>("stable", "arXiv:2204.08396", "a learned gate that is distilled into a table of token ids and frozen");
}

}  // namespace switchyard
