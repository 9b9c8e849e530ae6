// One unit per sequence: the mean of its tokens, padding left out. All tokens of a sequence share experts and weights, and
// the gradient of the unit reaches each of its n tokens with a factor 1/n. A token sees the whole sequence through the mean.
// Source: sentence-level gate, arXiv:2110.03742 section 3; SMEAR merges experts over the same unit (arXiv:2306.03745).
#include "core/sequences.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class SequencePool final : public Pooler {
 public:
  using Options = NoOptions;
  SequencePool(const Options&, const GateShape&) {}

  Pooled pool(const GateInput& input) override {
    const auto sequences = sequences_of(input, "pool sequence");
    const int64_t units = sequences.with_padding();
    return {means_of(input.hidden, sequences.of, units), sequences.of, torch::arange(units, torch::kInt64) < sequences.count};
  }
  bool looks_ahead() const override { return true; }
};

}  // namespace

PoolEntry pool_sequence() { return plug_in<SequencePool, PoolEntry>("sequence", "arXiv:2110.03742", "the mean over the tokens of a sequence"); }

}  // namespace switchyard::gates
