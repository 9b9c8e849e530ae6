// p = softmax over the experts of a token.
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class Softmax final : public Normaliser {
 public:
  using Options = NoOptions;
  Softmax(const Options&, const GateShape&) {}
  torch::Tensor normalise(const torch::Tensor& logits) override { return at::softmax(logits, -1); }
};

}  // namespace

NormaliseEntry normalise_softmax() { return plug_in<Softmax, NormaliseEntry>("softmax", "", "softmax over experts"); }

}  // namespace switchyard::gates
