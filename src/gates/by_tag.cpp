// The tag of a token (language, domain, task) names its expert: e = map[tag], weight 1, no parameters.
// Language-specific layers: languages that share an expert have the same number in the map. In training a sequence is sent to a
// random other expert with probability `reroute`, so that experts with little data train too. Other experts may be missing.
// Source: M2M-100, arXiv:2010.11125 section 5.2; DEMix, arXiv:2108.05036 section 3 (one expert per domain, no rerouting).
// A token without a tag is an error, not expert 0.
#include "core/call_tokens.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class ByTag final : public Gate {
 public:
  struct Options {
    std::vector<int64_t> map;
    double reroute = 0;
    template <class V> void fields(V&& v) {
      v("map", map, "expert of each tag; empty: tag i goes to expert i");
      v("reroute", reroute, "probability that a sequence goes to a random other expert, training only");
    }
  };

  ByTag(const Options& o, const GateShape& s) : o_(o), layer_(s.layer), num_experts_(s.num_experts) {
    for (size_t tag = 0; tag < o.map.size(); ++tag)
      if (o.map[tag] < 0 || o.map[tag] >= s.num_experts)
        fail(ErrorKind::config, "gate by_tag: map[{}] = {} in layers.{}.ffn, expected 0 to {}", tag, o.map[tag], s.layer, s.num_experts - 1);
    if (!(o.reroute >= 0 && o.reroute <= 1)) fail(ErrorKind::config, "gate by_tag: reroute = {}, expected 0 to 1", o.reroute);
    if (o.reroute > 0 && s.num_experts == 1) fail(ErrorKind::config, "gate by_tag: reroute = {} with num_experts = 1, expected 0", o.reroute);
  }

  Routing route(const GateInput& in) override {
    const int64_t num_tags = o_.map.empty() ? num_experts_ : static_cast<int64_t>(o_.map.size());
    auto ids = checked_tags(in, num_tags, "by_tag", layer_);
    if (!o_.map.empty()) ids = torch::tensor(o_.map, torch::kInt64).index_select(0, ids);
    if (in.training && o_.reroute > 0) ids = rerouted(in, ids);
    const auto dtype = in.hidden.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
    return {.choice = TokenChoice{ids.unsqueeze(1).contiguous(), torch::ones({ids.size(0), 1}, dtype)}};
  }

  double experts_per_token() const override { return 1; }

 private:
  [[nodiscard]] torch::Tensor rerouted(const GateInput& in, const torch::Tensor& ids) const {
    const auto places = sequence_places(in);
    auto out = ids.clone(at::MemoryFormat::Contiguous);
    const auto leaves = in.random.at("reroute"), goes = in.random.at("reroute_to");
    const auto* place = places.data_ptr<int64_t>();
    auto* id = out.data_ptr<int64_t>();
    for (int64_t t = 0; t < out.size(0); ++t) {
      const auto sequence = static_cast<uint64_t>(place[t]);
      if (leaves.uniform(sequence) >= o_.reroute) continue;
      const auto other = static_cast<int64_t>(goes.below(sequence, static_cast<uint64_t>(num_experts_ - 1)));
      id[t] = other + (other >= id[t] ? 1 : 0);
    }
    return out;
  }

  Options o_;
  int64_t layer_, num_experts_;
};

}  // namespace

GateEntry gate_by_tag() { return plug_in<ByTag, GateEntry>("by_tag", "arXiv:2010.11125", "the tag of a token (language, domain, task) names its expert"); }

}  // namespace switchyard
