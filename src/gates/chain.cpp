// Any gate that factors into blocks: { kind = "chain", score = ..., noise = ..., select = ..., weigh = ... }.
#include "core/chain_gate.h"

namespace switchyard {

GateEntry gate_chain() {
  return plug_in<ChainGate, GateEntry>("chain", "", "blocks in a chain: pool, score, noise, normalise, select, weigh");
}

}  // namespace switchyard
