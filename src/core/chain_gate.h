// The standard gate: a chain of blocks.
//
//   units = pool(tokens);  z = score(noise_in(units));  p = normalise(noise_out(z));  ids = select(p);  w = weigh(z, p, ids)
//
// The router computes in float32 whatever the model does; scores.logits are those before noise (router z-loss convention).
#pragma once

#include "switchyard/gate.h"

namespace switchyard {

struct ChainOptions {
  BlockSpec pool = "token", score = "linear", noise = "none", normalise = "softmax", select = "top_k", weigh = "renormalise";
  bool allow_constant_weight = false;

  template <class V> void fields(V&& v) {
    v("pool", pool, "what is scored as one unit");
    v("score", score, "logits from a unit");
    v("noise", noise, "exploration noise, training only");
    v("normalise", normalise, "logits to probabilities");
    v("select", select, "which experts");
    v("weigh", weigh, "what multiplies expert outputs");
    v("allow_constant_weight", allow_constant_weight, "accept a single choice with the constant weight 1: the task loss cannot train the router");
  }
};

class ChainGate final : public Gate {
 public:
  using Options = ChainOptions;
  ChainGate(const Options& options, const GateShape& shape);

  [[nodiscard]] Routing route(const GateInput& input) override;
  [[nodiscard]] double experts_per_token() const override { return select_->experts_per_token(); }

 private:
  std::shared_ptr<gates::Pooler> pool_;
  std::shared_ptr<gates::Scorer> score_;
  std::shared_ptr<gates::Noiser> noise_;
  std::shared_ptr<gates::Normaliser> normalise_;
  std::shared_ptr<gates::Selector> select_;
  std::shared_ptr<gates::Weigher> weigh_;
};

}  // namespace switchyard
