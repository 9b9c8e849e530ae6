// Every token is its own unit and brings its sequence along:  u_t = W [x_t ; mean of the sequence],  W [d, 2d], padding left
// out of the mean. Source: context routing of Uni-Perceiver-MoE, arXiv:2206.04674 section 3.2.
#include "core/ops.h"
#include "core/sequences.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard::gates {
namespace {

class ContextPool final : public Pooler {
 public:
  using Options = NoOptions;

  ContextPool(const Options&, const GateShape& s) {
    auto w = torch::empty({s.d_model, 2 * s.d_model});
    RandomStream(s.seed).at("context", static_cast<uint64_t>(s.layer)).fill_normal(w.data_ptr<float>(), w.numel());
    weight_ = register_parameter("weight", w / std::sqrt(static_cast<double>(2 * s.d_model)));
  }

  Pooled pool(const GateInput& input) override {
    const auto sequences = sequences_of(input, "pool context");
    const auto means = means_of(input.hidden, sequences.of, sequences.with_padding());
    const auto both = at::cat({input.hidden.to(means.scalar_type()), means.index_select(0, sequences.of)}, 1);
    return {ops::linear(both, weight_, /*exact=*/true)};
  }
  bool looks_ahead() const override { return true; }

 private:
  torch::Tensor weight_;
};

}  // namespace

PoolEntry pool_context() { return plug_in<ContextPool, PoolEntry>("context", "arXiv:2206.04674", "a token together with the mean of its sequence"); }

}  // namespace switchyard::gates
