// z = b: the same learned logits for every unit, zero at first. A route that belongs to the layer and not to what it reads:
// static routers of elastic networks (arXiv:2406.10260 section 3), which know their latency target and nothing else.
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class StaticScore final : public Scorer {
 public:
  using Options = NoOptions;
  StaticScore(const Options&, const GateShape& s) { logits_ = register_parameter("logits", torch::zeros({s.num_experts})); }

  torch::Tensor score(const torch::Tensor& units, const GateInput&) override { return logits_.unsqueeze(0).expand({units.size(0), logits_.size(0)}); }

 private:
  torch::Tensor logits_;  // [E]
};

}  // namespace

ScoreEntry score_static() { return plug_in<StaticScore, ScoreEntry>("static", "arXiv:2406.10260", "one learned vector of logits for all units"); }

}  // namespace switchyard::gates
