// MoLE: the weights of trained experts follow from their outputs, one set of weights for a whole sequence. With E_i(x) [T, o] what
// expert i makes of the sequence,
//   u = norm(E_0 + E_1 + ... side by side, flattened)    eps = e u [E]    p = softmax(eps / tau),  tau learned
// and every token gets sum_i p_i E_i(x). Source: Wu, Huang, Wei, arXiv:2404.13628 section 3.2. norm: mean 0, variance 1.
//
// The flattened vector must not grow with the text. Three readings:
//   unit = "sequence"              E_i is averaged over the tokens of the sequence first: u [E o]
//   unit = "sequence", length = L  as printed, for texts of one length: u [E L o], shorter texts end in zeros, the rest is cut off
//   unit = "token"                 every token is a text of one token: no token sees another, so that causal models may have it
// The first two see the whole sequence. Padding is in no sequence. `masked` experts get nothing and the weights of the others sum
// to 1, without any training (section 3.3). The paper has the experts frozen: then e and tau alone learn. Its balance term is the
// loss `log_balance`.
#include "core/ops.h"
#include "core/sequences.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace switchyard {
namespace {

class MoleGate final : public Gate {
 public:
  struct Options {
    std::string unit = "sequence";
    int64_t length = 0;
    double temperature = 1;
    std::vector<int64_t> masked;
    template <class V> void fields(V&& v) {
      v("unit", unit, "sequence: one set of weights for all its tokens; token");
      v("length", length, "with unit = 'sequence': tokens whose outputs are laid side by side; 0 = their mean");
      v("temperature", temperature, "tau at first; it is learned");
      v("masked", masked, "experts that get nothing; the weights of the others sum to 1");
    }
  };

  MoleGate(const Options& o, const GateShape& s)
      : o_(o), num_experts_(s.num_experts), layer_(s.layer), features_(s.num_experts * (s.d_out > 0 ? s.d_out : s.d_model) * std::max<int64_t>(1, o.length)) {
    if (o.unit != "sequence" && o.unit != "token") fail(ErrorKind::config, "gate mole: unit = '{}', expected sequence or token", o.unit);
    if (o.length < 0 || (o.length > 0 && o.unit == "token"))
      fail(ErrorKind::config, "gate mole: length = {} with unit = '{}', expected 0, or more with unit = 'sequence'", o.length, o.unit);
    if (!(o.temperature > 0)) fail(ErrorKind::config, "gate mole: temperature = {}, expected more than 0", o.temperature);
    off_ = torch::zeros({num_experts_}, torch::kBool);
    for (const int64_t e : o.masked) {
      if (e < 0 || e >= num_experts_) fail(ErrorKind::config, "gate mole: masked holds {}, expected 0 to {}", e, num_experts_ - 1);
      off_[e] = true;
    }
    if (off_.all().item<bool>()) fail(ErrorKind::config, "gate mole: all {} experts are masked", num_experts_);
    auto e = torch::empty({num_experts_, features_});
    RandomStream(s.seed).at("router", static_cast<uint64_t>(s.layer)).fill_normal(e.data_ptr<float>(), e.numel());
    e_ = register_parameter("e", e.mul_(std::sqrt(0.1 / static_cast<double>(features_))));  // as the linear router: logits near 0
    tau_ = register_parameter("tau", torch::full({1}, o.temperature));
  }

  Routing route(const GateInput& input) override {
    if (!input.expert_outputs)
      fail(ErrorKind::usage, "gate mole in layers.{}: needs GateInput::expert_outputs, what every expert makes of every token", layer_);
    auto outputs = input.expert_outputs();  // [T, E, o]
    if (outputs.scalar_type() != torch::kFloat64) outputs = outputs.to(torch::kFloat32);
    torch::Tensor unit_of;
    const auto units = units_of(outputs, input, unit_of);  // [U, features]
    const auto spread = [&](const torch::Tensor& of_unit) { return unit_of.defined() ? of_unit.index_select(0, unit_of) : of_unit; };
    const auto eps = ops::linear(at::layer_norm(units, {features_}), e_, /*exact=*/true) / tau_;
    const auto logits = spread(eps.masked_fill(off_, -std::numeric_limits<float>::infinity()));
    const auto probs = at::softmax(logits, 1);
    const auto broken = probs.isnan().any(1, /*keepdim=*/true);  // a sequence with a token that is no number chooses nobody
    const auto ids = torch::arange(num_experts_, torch::kInt64).masked_fill(off_, -1).expand({outputs.size(0), num_experts_}).masked_fill(broken, -1);
    return {.choice = TokenChoice{ids, probs.masked_fill(broken, 0)}, .scores = {logits, probs}};
  }

  double experts_per_token() const override { return static_cast<double>(num_experts_ - off_.sum().item<int64_t>()); }
  bool looks_ahead() const override { return o_.unit == "sequence"; }

 private:
  torch::Tensor units_of(const torch::Tensor& outputs, const GateInput& input, torch::Tensor& unit_of) const {
    if (o_.unit == "token") return outputs.flatten(1);
    const auto sequences = sequences_of(input, "gate mole");
    const int64_t count = sequences.with_padding();
    unit_of = sequences.of;
    if (o_.length == 0) return means_of(outputs.flatten(1), sequences.of, count);
    const auto place = places_in(sequences.of, count);
    const auto kept = (place < o_.length).nonzero().view({-1});
    const auto slot = (sequences.of * o_.length + place).index_select(0, kept);
    const auto laid = torch::zeros({count * o_.length, num_experts_, outputs.size(2)}, outputs.options().requires_grad(false))
                          .index_add(0, slot, outputs.index_select(0, kept));
    return laid.view({count, o_.length, num_experts_, -1}).transpose(1, 2).flatten(1);  // expert by expert, as the paper joins them
  }

  Options o_;
  int64_t num_experts_, layer_, features_;
  torch::Tensor off_;      // [E] bool: masked
  torch::Tensor e_, tau_;  // [E, features], [1]
};

}  // namespace

GateEntry gate_mole() { return plug_in<MoleGate, GateEntry>("mole", "arXiv:2404.13628", "weights of trained experts from what they make of a sequence"); }

}  // namespace switchyard
