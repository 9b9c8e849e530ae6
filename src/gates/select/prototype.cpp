// The best expert of each of Z groups of E / Z consecutive experts: k top-1 instead of one top-k (M6-T, arXiv:2105.15082).
// Goes with normalise = { kind = "softmax", groups = Z }.
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class Prototype final : public Selector {
 public:
  struct Options {
    int64_t groups = 2;
    template <class V> void fields(V&& v) { v("groups", groups, "prototypes; each contributes its best expert"); }
  };

  Prototype(const Options& o, const GateShape& s) : groups_(o.groups), size_(s.num_experts / std::max<int64_t>(1, o.groups)) {
    if (groups_ < 1 || s.num_experts % groups_ != 0)
      fail(ErrorKind::config, "select prototype: groups = {} in layers.{}.ffn does not divide num_experts = {}", groups_, s.layer, s.num_experts);
  }

  Selection select(Scored& s) override {
    const auto best = ops::top_k(s.ranked.detach().reshape({-1, size_}), 1).view({-1, groups_});  // [U, Z] inside the group
    const auto first = torch::arange(groups_, torch::kInt64) * size_;
    return {at::where(best >= 0, best + first, best)};
  }
  double experts_per_token() const override { return static_cast<double>(groups_); }

 private:
  int64_t groups_, size_;
};

}  // namespace

SelectEntry select_prototype() {
  return plug_in<Prototype, SelectEntry>("prototype", "arXiv:2105.15082", "the best expert of each group of experts");
}

}  // namespace switchyard::gates
