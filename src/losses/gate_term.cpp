// A loss that only the gate itself can form, by its name: thresholds, codes, distillation. The gate puts it into
// Routing::terms; which names there are stands in the head comment of the gate or block.
#include "switchyard/error.h"
#include "switchyard/loss.h"

namespace switchyard {
namespace {

class GateTerm final : public LossTerm {
 public:
  struct Options {
    std::string term;
    template <class V> void fields(V&& v) { v("term", term, "name of the gate's own loss"); }
  };
  explicit GateTerm(const Options& o) : term_(o.term) {}

  torch::Tensor value(const RoutingStats& s) const override {
    const auto found = s.terms.find(term_);
    if (found != s.terms.end() && found->second.dim() == 0) return found->second;
    std::string known;
    for (const auto& [name, value] : s.terms)
      if (value.dim() == 0) known += (known.empty() ? "" : ", ") + name;
    fail(ErrorKind::config, "loss gate_term: the gate of layer {} forms no term '{}'; it forms: {}", s.layer, term_, known.empty() ? "none" : known);
  }

 private:
  std::string term_;
};

}  // namespace

LossEntry loss_gate_term() { return plug_in<GateTerm, LossEntry>("gate_term", "", "a loss that only the gate itself can form, by name"); }

}  // namespace switchyard
