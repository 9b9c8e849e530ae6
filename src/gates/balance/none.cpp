// The selector compares the probabilities as they are.
#include "switchyard/gate.h"

namespace switchyard::gates {
namespace {

class NoBalance final : public Balancer {
 public:
  using Options = NoOptions;
  NoBalance(const Options&, const GateShape&) {}
};

}  // namespace

BalanceEntry balance_none() { return plug_in<NoBalance, BalanceEntry>("none", "", "no state: the probabilities as they are"); }

}  // namespace switchyard::gates
