// Every chosen pair is sent.
#include "switchyard/gate.h"

namespace switchyard::gates {
namespace {

class KeepAll final : public Keeper {
 public:
  using Options = NoOptions;
  KeepAll(const Options&, const GateShape&) {}
};

}  // namespace

KeepEntry keep_all() { return plug_in<KeepAll, KeepEntry>("all", "", "every chosen pair is sent"); }

}  // namespace switchyard::gates
