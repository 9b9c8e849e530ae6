// Expert output masking: in training each chosen pair contributes nothing with probability p, the others are not scaled up;
// outside training every weight is multiplied by 1 - p, the expectation. With whole = true the whole sum of a token is
// masked instead (final output masking). Source: NLLB, arXiv:2207.04672 section 6.2 (p = 0.2).
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class MaskedOutputs final : public Keeper {
 public:
  struct Options {
    double p = 0.2;
    bool whole = false;
    template <class V> void fields(V&& v) {
      v("p", p, "chance of a pair to contribute nothing in training");
      v("whole", whole, "mask the sum of a token instead of single experts");
    }
  };

  MaskedOutputs(const Options& o, const GateShape&) : o_(o) {
    if (!(o.p >= 0 && o.p < 1)) fail(ErrorKind::config, "keep masked_outputs: p = {}, expected 0 <= p < 1", o.p);
  }

  // The pair keeps its place in the expert's buffer, as in the source: only its weight goes.
  void keep(const Scored& s, Selection& chosen, torch::Tensor& weights) override {
    if (chosen.by_column) fail(ErrorKind::config, "keep masked_outputs: needs units that choose experts");
    if (!s.input.training) {
      weights = weights * (1 - o_.p);
      return;
    }
    const int64_t columns = o_.whole ? 1 : weights.size(1);
    auto u = torch::empty({weights.size(0), columns}, torch::kFloat32);
    s.input.random.at("masked_outputs").fill_uniform(u.data_ptr<float>(), u.numel(), static_cast<uint64_t>(s.input.first_token * columns));
    weights = weights * (u >= o_.p).to(weights.scalar_type());
  }

 private:
  Options o_;
};

}  // namespace

KeepEntry keep_masked_outputs() {
  return plug_in<MaskedOutputs, KeepEntry>("masked_outputs", "arXiv:2207.04672", "expert outputs are dropped at random in training");
}

}  // namespace switchyard::gates
