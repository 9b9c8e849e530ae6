#include "switchyard/gate.h"

namespace switchyard::gates {
namespace {

class NoNoise final : public Noiser {
 public:
  using Options = NoOptions;
  NoNoise(const Options&, const GateShape&) {}
};

}  // namespace

NoiseEntry noise_none() { return plug_in<NoNoise, NoiseEntry>("none", "", "no noise"); }

}  // namespace switchyard::gates
