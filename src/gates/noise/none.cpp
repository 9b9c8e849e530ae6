#include "switchyard/gate.h"

namespace switchyard::gates {
namespace {

class NoNoise final : public Noiser {
 public:
  struct Options {
    template <class V> void fields(V&&) {}
  };
  NoNoise(const Options&, const GateShape&) {}
};

}  // namespace

NoiseEntry noise_none() { return plug_in<NoNoise, NoiseEntry>("none", "", "no noise"); }

}  // namespace switchyard::gates
