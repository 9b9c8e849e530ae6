// HOMOE: a modern Hopfield memory in front of Soft MoE. The mean of a sequence asks the memory, once per companion through a
// map of its own, and what comes back joins the tokens that the slots of the experts are means of:
//   xi_c = W_c mean(X),   xi_c <- sum_i softmax_i(beta <m^_i, xi^_c>) m^_i  (`updates` times),   companion_c = sum_i a_ci m_i
//   slots = Soft MoE over the token set [X ; companions],   y = the combination of slot outputs for X alone
// with a_c the association of the last update; x^ = x / |x|, so that beta counts in cosines. Companions belong to one sequence:
// sequences never mix, and padding is in no mean. The memory starts as N(0, 1) per number, the size of tokens behind a norm; it
// learns, or stays as it is (learn_memory = false: a buffer that a program fills).
// Source: Dat et al., arXiv:2311.14747, from its description (no public code): retrieval from prototypes of attributes and
// objects, then Soft MoE over the query and what was retrieved. Departs from it: prototypes are learned rows of one memory
// instead of features of training images, and W_c is learned where it asks the memory of attributes and that of objects.
#include "core/hopfield.h"
#include "core/ops.h"
#include "core/sequences.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {
namespace {

class Homoe final : public Gate {
 public:
  struct Options {
    int64_t memory = 32, companions = 2, updates = 1;
    double beta = 8;
    bool learn_memory = true;
    BlockSpec soft = "soft_moe";
    template <class V> void fields(V&& v) {
      v("memory", memory, "stored patterns");
      v("companions", companions, "patterns that are retrieved for each sequence");
      v("updates", updates, "steps of the retrieval");
      v("beta", beta, "sharpness of the retrieval; large: the nearest pattern, and little gradient");
      v("learn_memory", learn_memory, "patterns are parameters; false: they stay");
      v("soft", soft, "the gate over tokens and companions, a soft one");
    }
  };

  Homoe(const Options& o, const GateShape& s) : o_(o), layer_(s.layer) {
    const auto refuse = [&](const char* key, const std::string& value, const char* expected) {
      fail(ErrorKind::config, "gate homoe: {} = {} in layers.{}.ffn, expected {}", key, value, s.layer, expected);
    };
    if (o.memory < 1) refuse("memory", std::to_string(o.memory), "at least 1");
    if (o.companions < 1) refuse("companions", std::to_string(o.companions), "at least 1");
    if (o.updates < 1) refuse("updates", std::to_string(o.updates), "at least 1");
    if (!(o.beta > 0)) refuse("beta", fmt::format("{}", o.beta), "more than 0");
    const auto stream = RandomStream(s.seed).at("homoe", static_cast<uint64_t>(s.layer));
    const auto draw = [&](const char* name, torch::IntArrayRef sizes) {
      auto w = torch::empty(sizes);
      stream.at(name).fill_normal(w.data_ptr<float>(), w.numel());
      return w;
    };
    const auto patterns = draw("memory", {o.memory, s.d_model});
    memory_ = o.learn_memory ? register_parameter("memory", patterns) : register_buffer("memory", patterns);
    query_ = register_parameter("query", draw("query", {o.companions * s.d_model, s.d_model}) / std::sqrt(static_cast<double>(s.d_model)));
    soft_ = register_module("soft", gate_registry().make(o.soft, s));
  }

  Routing route(const GateInput& input) override {
    const auto sequences = sequences_of(input, "gate homoe");
    const auto found = companions(input, sequences);  // [G * companions, d]
    auto out = soft_->route(with_companions(input, sequences, found));
    auto* slots = std::get_if<SoftSlots>(&out.choice);
    if (!slots) fail(ErrorKind::config, "gate homoe: soft = '{}' in layers.{}.ffn makes no slots, expected a gate such as soft_moe", o_.soft.kind, layer_);
    const int64_t tokens = input.hidden.size(0), groups = slots->groups, each = groups > 0 ? found.size(0) / groups : 0;
    const auto of_companions = slots->dispatch.slice(0, tokens);
    slots->extra = at::bmm(of_companions.reshape({groups, each, of_companions.size(1)}).transpose(1, 2),
                           found.to(of_companions.scalar_type()).view({groups, each, found.size(1)}));  // [G, S, d]
    for (torch::Tensor* of_token : {&slots->dispatch, &slots->combine, &slots->group_of})
      if (of_token->defined()) *of_token = of_token->slice(0, 0, tokens);
    return out;
  }
  double experts_per_token() const override { return soft_->experts_per_token(); }
  bool looks_ahead() const override { return true; }

 private:
  static torch::Tensor direction(const torch::Tensor& x) { return x / (x.square().sum(-1, /*keepdim=*/true) + 1e-12).sqrt(); }

  // Sequence by sequence.
  [[nodiscard]] torch::Tensor companions(const GateInput& input, const Sequences& sequences) const {
    const auto means = means_of(input.hidden, sequences.of, sequences.with_padding()).slice(0, 0, sequences.count);
    const auto patterns = direction(memory_);
    auto state = direction(ops::linear(means.contiguous(), query_, /*exact=*/true).view({sequences.count * o_.companions, memory_.size(1)}));
    for (int64_t i = 1; i < o_.updates; ++i) state = direction(hopfield::update(state, patterns, o_.beta));
    return at::matmul(hopfield::association(state, patterns, o_.beta), memory_);
  }

  // The call as the soft gate sees it: companions are tokens of their sequences, behind the last token of the call.
  [[nodiscard]] GateInput with_companions(const GateInput& input, const Sequences& sequences, const torch::Tensor& found) const {
    GateInput out;
    out.hidden = at::cat({input.hidden.scalar_type() == torch::kFloat64 ? input.hidden : input.hidden.to(torch::kFloat32), found});
    const auto is_padding = sequences.of == sequences.count;
    out.sequence_ids = at::cat({sequences.of.masked_fill(is_padding, -1), torch::arange(sequences.count, torch::kInt64).repeat_interleave(o_.companions)});
    out.training = input.training;
    out.step = input.step;
    out.first_token = input.first_token;
    out.random = input.random;
    return out;
  }

  Options o_;
  int64_t layer_;
  torch::Tensor memory_, query_;  // [P, d], [companions * d, d]
  std::shared_ptr<Gate> soft_;
};

}  // namespace

GateEntry gate_homoe() {
  return plug_in<Homoe, GateEntry>("homoe", "arXiv:2311.14747", "Soft MoE over the tokens of a sequence and what they recall from a Hopfield memory");
}

}  // namespace switchyard
