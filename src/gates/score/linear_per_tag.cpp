// z_t = W[tag_t] x_t: a linear router of its own for every task over experts that all tasks share (Mod-Squad,
// arXiv:2212.08066 section 3.1). The weights start at zero, as in its code: noise decides at first.
#include "core/tag_linear.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard::gates {
namespace {

class LinearPerTag final : public Scorer {
 public:
  struct Options {
    int64_t tags = 0;
    double init_scale = 0;
    template <class V> void fields(V&& v) {
      v("tags", tags, "how many tags there are: 0 .. tags - 1");
      v("init_scale", init_scale, "initial weights are N(0, init_scale / d_model)");
    }
  };

  LinearPerTag(const Options& o, const GateShape& s) {
    if (o.tags < 1) fail(ErrorKind::config, "score linear_per_tag: tags = {} in layers.{}.ffn, expected at least 1", o.tags, s.layer);
    auto w = torch::empty({o.tags, s.num_experts, s.d_model});
    RandomStream(s.seed).at("router", static_cast<uint64_t>(s.layer)).fill_normal(w.data_ptr<float>(), w.numel());
    weight_ = register_parameter("weight", w * std::sqrt(o.init_scale / static_cast<double>(s.d_model)));
  }

  torch::Tensor score(const torch::Tensor& units, const GateInput& in) override { return linear_of_tag(units, weight_, in, "score linear_per_tag"); }

 private:
  torch::Tensor weight_;  // [tags, E, d]
};

}  // namespace

ScoreEntry score_linear_per_tag() { return plug_in<LinearPerTag, ScoreEntry>("linear_per_tag", "arXiv:2212.08066", "a linear router per tag"); }

}  // namespace switchyard::gates
