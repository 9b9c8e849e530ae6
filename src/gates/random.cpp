// THOR: experts without a router. In training every call of the step goes to one expert per layer, drawn uniformly; two passes
// over a batch (train.consistency) draw twice and learn to agree. Outside training one expert per sequence or token is drawn,
// or all of them are averaged. Weight 1, no parameters.
//   e ~ U{0, ..., E - 1}
// A draw is a function of the stream and the place of the token (or of its sequence) among all tokens of the step, so that it does
// not depend on micro-batches and ranks.
// Source: Zuo et al., arXiv:2110.04260 section 3.
#include "core/call_tokens.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class Random final : public Gate {
 public:
  struct Options {
    std::string train_unit = "batch", eval_unit = "token";
    template <class V> void fields(V&& v) {
      v("train_unit", train_unit, "what shares a draw in training: batch (all tokens of the step), sequence or token");
      v("eval_unit", eval_unit, "what shares a draw otherwise: batch, sequence or token; all: the mean of all experts");
    }
  };

  Random(const Options& o, const GateShape& s) : o_(o), num_experts_(s.num_experts) {
    check("train_unit", o.train_unit, false);
    check("eval_unit", o.eval_unit, true);
  }

  Routing route(const GateInput& in) override {
    const int64_t tokens = in.hidden.size(0);
    const auto dtype = in.hidden.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
    const std::string& unit = in.training ? o_.train_unit : o_.eval_unit;
    if (unit == "all") {
      const auto ids = torch::arange(num_experts_, torch::kInt64).expand({tokens, num_experts_}).contiguous();
      return {.choice = TokenChoice{ids, torch::full({tokens, num_experts_}, 1.0 / static_cast<double>(num_experts_), dtype)}};
    }
    auto ids = torch::empty({tokens, 1}, torch::kInt64);
    const auto stream = in.random.at("expert");
    const auto experts = static_cast<uint64_t>(num_experts_);
    const auto places = unit == "batch"    ? torch::zeros({tokens}, torch::kInt64)
                        : unit == "token" ? torch::arange(in.first_token, in.first_token + tokens, torch::kInt64)
                                           : sequence_places(in);
    const auto* place = places.data_ptr<int64_t>();
    auto* id = ids.data_ptr<int64_t>();
    for (int64_t t = 0; t < tokens; ++t) id[t] = static_cast<int64_t>(stream.below(static_cast<uint64_t>(place[t]), experts));
    return {.choice = TokenChoice{ids, torch::ones({tokens, 1}, dtype)}};
  }

  // For counting costs in training; averaging all experts is the dear form of evaluation.
  double experts_per_token() const override { return 1; }

 private:
  static void check(const char* key, const std::string& value, bool all) {
    if (value == "batch" || value == "sequence" || value == "token" || (all && value == "all")) return;
    fail(ErrorKind::config, "gate random: {} = '{}', expected batch, sequence{}", key, value, all ? ", token or all" : " or token");
  }

  Options o_;
  int64_t num_experts_;
};

}  // namespace

GateEntry gate_random() {
  return plug_in<Random, GateEntry>("random", "arXiv:2110.04260", "one expert drawn for all tokens of a step; per sequence or token in evaluation");
}

}  // namespace switchyard
