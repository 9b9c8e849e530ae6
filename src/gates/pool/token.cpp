// Every token is its own unit.
#include "switchyard/gate.h"

namespace switchyard::gates {
namespace {

class TokenPool final : public Pooler {
 public:
  using Options = NoOptions;
  TokenPool(const Options&, const GateShape&) {}
  Pooled pool(const GateInput& input) override { return {input.hidden, {}}; }
};

}  // namespace

PoolEntry pool_token() { return plug_in<TokenPool, PoolEntry>("token", "", "every token is scored by itself"); }

}  // namespace switchyard::gates
