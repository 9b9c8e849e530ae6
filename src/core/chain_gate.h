// The standard gate: a chain of blocks.
//
//   units = pool(tokens);  z = score(noise_in(units));  z~ = noise_out(z);  p = normalise(z~);  r = balance(p)
//   ids = select(r);  w = weigh(z~, p, ids);  ids, w = keep(ids, w)
//
// The router computes in float32 whatever the model does; scores.logits are those before noise (router z-loss convention).
// What comes out combines expert outputs (TokenChoice, ExpertChoice) or, with combine = "parameters", the experts
// themselves: one averaged expert per unit (ExpertMix).
#pragma once

#include "switchyard/gate.h"

namespace switchyard {

struct ChainOptions {
  BlockSpec pool = "token", score = "linear", noise = "none", normalise = "softmax", balance = "none", select = "top_k",
            weigh = "renormalise", keep = "all";
  std::string combine = "outputs";
  int64_t null_experts = 0;
  bool allow_constant_weight = false;

  template <class V> void fields(V&& v) {
    v("pool", pool, "what is scored as one unit");
    v("score", score, "logits from a unit");
    v("noise", noise, "exploration noise, training only");
    v("normalise", normalise, "logits to probabilities");
    v("balance", balance, "balance by state: a bias on the ranking, coefficients that adapt");
    v("select", select, "which experts");
    v("weigh", weigh, "what multiplies expert outputs");
    v("keep", keep, "which of the chosen are sent after all");
    v("combine", combine, "outputs: a weighted sum of expert outputs; parameters: one expert of averaged weights per unit");
    v("null_experts", null_experts, "choices that do nothing and cost nothing, scored beside the experts (AdaMoE)");
    v("allow_constant_weight", allow_constant_weight, "accept a single choice with the constant weight 1: the task loss cannot train the router");
  }
};

class ChainGate final : public Gate {
 public:
  using Options = ChainOptions;
  ChainGate(const Options& options, const GateShape& shape);

  [[nodiscard]] Routing route(const GateInput& input) override;
  void update(const RoutingStats& stats) override { balance_->update(stats); }
  [[nodiscard]] double experts_per_token() const override;
  [[nodiscard]] bool looks_ahead() const override { return pool_->looks_ahead() || select_->looks_ahead(); }

 private:
  [[nodiscard]] gates::Scored score(const GateInput& input);
  [[nodiscard]] Routing outputs(gates::Scored& s, gates::Selection chosen, torch::Tensor weights) const;
  [[nodiscard]] Routing parameters(gates::Scored& s, const gates::Selection& chosen, const torch::Tensor& weights) const;

  int64_t num_experts_, null_experts_;
  bool mix_parameters_;
  std::shared_ptr<gates::Pooler> pool_;
  std::shared_ptr<gates::Scorer> score_;
  std::shared_ptr<gates::Noiser> noise_;
  std::shared_ptr<gates::Normaliser> normalise_;
  std::shared_ptr<gates::Balancer> balance_;
  std::shared_ptr<gates::Selector> select_;
  std::shared_ptr<gates::Weigher> weigh_;
  std::shared_ptr<gates::Keeper> keep_;
};

}  // namespace switchyard
