// Weight 1 for the best of the chosen, 0 for the others; backward, the weights are the probabilities:
//   w = onehot + p - stop(p)
// so that one expert alone makes the output, and the router learns as if it had been the soft sum over the chosen:
//   dL/dp_i = <dL/dy, f_i(x)>   for every chosen i, at the y that the best one made.
// What the selector sends decides about price and variance of that gradient:
//   all experts in training (select = "dense_to_sparse", threshold = 0)   the whole gradient of the soft version; every expert works
//   the best one (select = "top_k", k = 1)                                its term alone, through its softmax; one expert works
// With Gumbel noise and an annealed softmax p is the soft sample of arXiv:1611.01144 section 2.2.
// Source: task-level mixtures of whole layers, arXiv:2205.12701 section 3.
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class StraightThrough final : public Weigher {
 public:
  using Options = NoOptions;
  StraightThrough(const Options&, const GateShape&) {}

  torch::Tensor weigh(const Scored& s, const Selection& chosen) override {
    if (chosen.by_column) fail(ErrorKind::config, "weigh straight_through: needs units that choose experts");
    const auto p = chosen.gather(s.probs);
    auto hard = torch::zeros_like(p);
    hard.select(1, 0).copy_(chosen.ids.select(1, 0) >= 0);
    return hard + (p - p.detach());
  }
};

}  // namespace

WeighEntry weigh_straight_through() {
  return plug_in<StraightThrough, WeighEntry>("straight_through", "arXiv:2205.12701", "1 for the best expert, the gradient of its probability");
}

}  // namespace switchyard::gates
