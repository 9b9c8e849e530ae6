#include "vision/lstm.h"

#include "switchyard/error.h"
#include "vision/training.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard::vision {
namespace {

BlockSpec noisy_top_k(int64_t k) {
  BlockSpec gate{"chain", {{"noise", "learned_gaussian"}, {"select", {{"kind", "top_k"}, {"k", k}}}, {"weigh", k > 1 ? "softmax_chosen" : "raw"}}};
  return gate;
}

// The expert that a token of a step chose, [B, k], and its weights.
TokenChoice route_step(Gate& gate, const torch::Tensor& x, bool training, const RandomStream& random) {
  GateInput in;
  in.hidden = x;
  in.training = training;
  in.random = random;
  return std::get<TokenChoice>(gate.route(in).choice);
}

torch::Tensor dropped(const torch::Tensor& x, double p, bool training, const RandomStream& random) {
  if (!training || p <= 0) return x;
  return x * (uniform(random, x.sizes().vec()) >= p).to(x.scalar_type()) / (1 - p);
}

}  // namespace

LstmCells::LstmCells(int64_t cells, int64_t d, int64_t hidden, const RandomStream& random) {
  if (cells < 1 || d < 1 || hidden < 1) fail(ErrorKind::config, "lstm: {} cells of {} -> {}, expected at least 1 of each", cells, d, hidden);
  const double bound = 1 / std::sqrt(static_cast<double>(hidden));
  in_ = register_parameter("in", uniform(random.at("in"), {cells, 4 * hidden, d}, -bound, bound));
  recurrent_ = register_parameter("recurrent", uniform(random.at("recurrent"), {cells, 4 * hidden, hidden}, -bound, bound));
  bias_ = register_parameter("bias", torch::zeros({cells, 4 * hidden}));
}

LstmCells::State LstmCells::zero_state(int64_t batch) const {
  const auto zeros = torch::zeros({cells(), batch, hidden()}, in_.options().requires_grad(false));
  return {zeros, zeros};
}

torch::Tensor LstmCells::step(int64_t n, const torch::Tensor& x, const torch::Tensor& who, State& state) const {
  const auto h = state.h[n].index_select(0, who), c = state.c[n].index_select(0, who);
  const auto z = (at::matmul(x, in_[n].t()) + at::matmul(h, recurrent_[n].t()) + bias_[n]).chunk(4, 1);
  const auto next_c = at::sigmoid(z[1]) * c + at::sigmoid(z[0]) * at::tanh(z[2]), next_h = at::sigmoid(z[3]) * at::tanh(next_c);
  const int64_t batch = state.h.size(1);
  const auto place = n * batch + who;
  state.h = state.h.view({cells() * batch, -1}).index_copy(0, place, next_h).view_as(state.h);
  state.c = state.c.view({cells() * batch, -1}).index_copy(0, place, next_c).view_as(state.c);
  return next_h;
}

torch::Tensor run_cell(const LstmCells& cells, int64_t n, const torch::Tensor& x) {
  auto state = cells.zero_state(x.size(0));
  const auto all = torch::arange(x.size(0), torch::kInt64);
  std::vector<torch::Tensor> out;
  for (int64_t t = 0; t < x.size(1); ++t) out.push_back(cells.step(n, x.select(1, t), all, state));
  return at::stack(out, 1);
}

RecurrentExperts::RecurrentExperts(const Options& o, int64_t d, uint64_t seed) : options_(o), seed_(seed) {
  gate_ = register_module("gate", gate_registry().make(noisy_top_k(o.k), GateShape{.d_model = d, .num_experts = o.experts, .layer = 0, .seed = seed}));
  cells_ = register_module("cells", std::make_shared<LstmCells>(o.experts, d, o.hidden, RandomStream(seed, "lstm experts")));
}

torch::Tensor RecurrentExperts::forward(const torch::Tensor& x, int64_t step, Trace* trace) {
  const int64_t batch = x.size(0);
  auto state = cells_->zero_state(batch);
  const auto all = torch::arange(batch, torch::kInt64);
  const auto random = RandomStream(seed_).at("recurrent experts", static_cast<uint64_t>(step));
  std::vector<torch::Tensor> out, chosen;
  for (int64_t t = 0; t < x.size(1); ++t) {
    const auto now = x.select(1, t);
    const auto choice = route_step(*gate_, now, is_training(), random.at("t", static_cast<uint64_t>(t)));
    auto y = torch::zeros({batch, cells_->hidden()}, x.options());
    for (int64_t e = 0; e < options_.experts; ++e) {
      const auto weight = (choice.weights.to(x.scalar_type()) * (choice.expert_ids == e).to(x.scalar_type())).sum(1);  // [B]
      const auto mine = (choice.expert_ids == e).any(1).nonzero().view({-1});
      const auto who = options_.always_step ? all : mine;
      if (who.size(0) == 0) continue;
      const auto h = cells_->step(e, now.index_select(0, who), who, state);
      y = y.index_add(0, who, h * weight.index_select(0, who).unsqueeze(1));
    }
    out.push_back(y);
    chosen.push_back(choice.expert_ids);
  }
  if (trace) *trace = {at::stack(chosen, 1), state};
  return at::stack(out, 1);
}

LstmModel::LstmModel(const Options& o, uint64_t seed) : options_(o), seed_(seed) {
  if (o.between != "none" && o.between != "feed_forward" && o.between != "recurrent")
    fail(ErrorKind::config, "lstm: between = '{}', expected none, feed_forward or recurrent", o.between);
  const RandomStream random(seed, "lstm model");
  embed_ = register_parameter("embed", normal(random.at("embed"), {o.vocab, o.hidden}, 0.1));
  first_ = register_module("first", std::make_shared<LstmCells>(1, o.hidden, o.hidden, random.at("first")));
  second_ = register_module("second", std::make_shared<LstmCells>(1, o.hidden, o.hidden, random.at("second")));
  head_ = register_parameter("head", normal(random.at("head"), {o.vocab, o.hidden}, 0.1));
  if (o.between == "feed_forward")
    moe_ = register_module("experts", std::make_shared<MoELayer>(MoEOptions{.d_model = o.hidden, .d_expert = o.d_expert, .num_experts = o.experts, .gate = noisy_top_k(o.k),
                                                                            .experts = "relu", .losses = {{"importance", o.balance}, {"load", o.balance}},
                                                                            .init_std = 0.1, .init_out_std = 0.1, .seed = seed}));
  if (o.between == "recurrent")
    recurrent_ = register_module("experts", std::make_shared<RecurrentExperts>(RecurrentExperts::Options{.experts = o.experts, .k = o.k, .hidden = o.hidden}, o.hidden, seed));
}

LstmModel::Output LstmModel::forward(const torch::Tensor& ids, int64_t step) {
  const auto random = RandomStream(seed_, "lstm dropout").at("step", static_cast<uint64_t>(step));
  const auto drop = [&](const torch::Tensor& x, const char* where) { return dropped(x, options_.dropout, is_training(), random.at(where)); };
  auto x = run_cell(*first_, 0, at::embedding(embed_, ids));
  torch::Tensor aux = torch::zeros({});
  if (moe_) {
    auto [y, loss] = (*moe_)(drop(x, "before"), step);
    x = x + at::sigmoid(y);
    aux = loss;
  } else if (recurrent_) {
    x = x + recurrent_->forward(drop(x, "before"), step);
  }
  const auto y = run_cell(*second_, 0, drop(x, "after"));
  return {at::matmul(y, head_.t()), aux};
}

}  // namespace switchyard::vision
