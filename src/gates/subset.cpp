// A gate over `of` experts of which the layer still holds `experts`: the inner gate decides as before, a choice of a missing
// expert is no choice, the others get their numbers in the layer. Weights stay as they are, so that a token whose choices are
// all there gets the same output. What is left of a layer for one task (Mod-Squad, arXiv:2212.08066 section 3.3;
// layer/tag_network.h).
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class SubsetGate final : public Gate {
 public:
  struct Options {
    BlockSpec gate = {"top_k", {{"k", 2}}};
    int64_t of = 0;
    std::vector<int64_t> experts;
    template <class V> void fields(V&& v) {
      v("gate", gate, "the gate over all experts");
      v("of", of, "how many experts the inner gate knows");
      v("experts", experts, "those that the layer holds, as the inner gate numbers them");
    }
  };

  SubsetGate(const Options& o, const GateShape& s) {
    if (static_cast<int64_t>(o.experts.size()) != s.num_experts)
      fail(ErrorKind::config, "gate subset: {} experts are named in layers.{}.ffn, and num_experts = {}", o.experts.size(), s.layer, s.num_experts);
    if (o.of < s.num_experts) fail(ErrorKind::config, "gate subset: of = {} in layers.{}.ffn, expected at least num_experts = {}", o.of, s.layer, s.num_experts);
    number_ = torch::full({o.of + 1}, -1, torch::kInt64);  // the last place: no expert
    for (size_t i = 0; i < o.experts.size(); ++i) {
      const int64_t e = o.experts[i];
      if (e < 0 || e >= o.of || number_[e].item<int64_t>() >= 0) fail(ErrorKind::config, "gate subset: expert {} is named twice or outside 0 .. {}", e, o.of - 1);
      number_[e] = static_cast<int64_t>(i);
    }
    auto shape = s;
    shape.num_experts = o.of;
    inner_ = register_module("gate", gate_registry().make(o.gate, shape));
  }

  Routing route(const GateInput& input) override {
    auto out = inner_->route(input);
    auto* choice = std::get_if<TokenChoice>(&out.choice);
    if (!choice) fail(ErrorKind::config, "gate subset: needs tokens that choose experts");
    const auto none = torch::full({}, number_.size(0) - 1, torch::kInt64);
    choice->expert_ids = number_.index_select(0, at::where(choice->expert_ids >= 0, choice->expert_ids, none).view({-1})).view(choice->expert_ids.sizes());
    choice->weights = choice->weights * (choice->expert_ids >= 0).to(choice->weights.scalar_type());
    out.scores = {};  // of experts that are not all there
    return out;
  }
  double experts_per_token() const override { return std::min(inner_->experts_per_token(), static_cast<double>((number_ >= 0).sum().item<int64_t>())); }
  bool looks_ahead() const override { return inner_->looks_ahead(); }

 private:
  torch::Tensor number_;  // [of + 1]: the number of each expert in the layer; -1 = not there
  std::shared_ptr<Gate> inner_;
};

}  // namespace

GateEntry gate_subset() { return plug_in<SubsetGate, GateEntry>("subset", "arXiv:2212.08066", "a gate of which some experts are gone"); }

}  // namespace switchyard
