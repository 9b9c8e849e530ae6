// p = softmax over the experts of a unit; with groups = Z, over each of Z runs of E / Z experts by itself (expert
// prototyping, arXiv:2105.15082).
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class Softmax final : public Normaliser {
 public:
  struct Options {
    int64_t groups = 1;
    template <class V> void fields(V&& v) { v("groups", groups, "runs of experts, each with a softmax of its own"); }
  };

  Softmax(const Options& o, const GateShape& s) : groups_(o.groups) {
    if (groups_ < 1 || s.num_experts % groups_ != 0)
      fail(ErrorKind::config, "normalise softmax: groups = {} in layers.{}.ffn does not divide num_experts = {}", groups_, s.layer, s.num_experts);
  }

  torch::Tensor normalise(const Scored& s) override {
    if (groups_ == 1) return ops::softmax(s.noisy);
    const int64_t units = s.noisy.size(0), experts = s.noisy.size(1);
    return ops::softmax(s.noisy.view({units, groups_, experts / groups_})).view({units, experts});
  }

 private:
  int64_t groups_;
};

}  // namespace

NormaliseEntry normalise_softmax() { return plug_in<Softmax, NormaliseEntry>("softmax", "", "softmax over experts"); }

}  // namespace switchyard::gates
