// p_i = 1 / (1 + exp(-z_i)): experts do not compete (DeepSeek-V3, arXiv:2412.19437 section 2.1.2).
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class Sigmoid final : public Normaliser {
 public:
  using Options = NoOptions;
  Sigmoid(const Options&, const GateShape&) {}
  torch::Tensor normalise(const Scored& s) override { return at::sigmoid(s.noisy); }
};

}  // namespace

NormaliseEntry normalise_sigmoid() { return plug_in<Sigmoid, NormaliseEntry>("sigmoid", "arXiv:2412.19437", "sigmoid of each logit"); }

}  // namespace switchyard::gates
