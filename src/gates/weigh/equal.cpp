// w = 1 for every chosen expert, or 1 / n where n were chosen. The task loss does not reach the router through it.
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class Equal final : public Weigher {
 public:
  struct Options {
    bool mean = true;
    template <class V> void fields(V&& v) { v("mean", mean, "1 / n for n chosen experts; false: 1 for each"); }
  };
  Equal(const Options& o, const GateShape&) : mean_(o.mean) {}

  torch::Tensor weigh(const Scored& s, const Selection& chosen) override {
    const auto one = (chosen.ids >= 0).to(s.probs.scalar_type());
    return mean_ ? one / chosen.sum_of_unit(one, s.probs.size(0)).clamp_min(1) : one;
  }
  bool constant_for_one() const override { return true; }

 private:
  bool mean_;
};

}  // namespace

WeighEntry weigh_equal() { return plug_in<Equal, WeighEntry>("equal", "", "the same weight for every chosen expert"); }

}  // namespace switchyard::gates
