// Any gate that factors into blocks: { kind = "chain", score = ..., noise = ..., select = ..., weigh = ... }.
#include "core/chain_gate.h"

namespace switchyard {

GateEntry gate_chain() {
  auto entry = plug_in<ChainGate, GateEntry>("chain", "", "blocks in a chain: pool, score, noise, normalise, balance, select, weigh, keep");
  entry.check = [](const ConfigNode& node, const std::string& path) {
    ChainOptions o;
    read_fields(o, node, path);
    gates::poolers().check(o.pool, path + ".pool");
    gates::scorers().check(o.score, path + ".score");
    gates::noisers().check(o.noise, path + ".noise");
    gates::normalisers().check(o.normalise, path + ".normalise");
    gates::selectors().check(o.select, path + ".select");
    gates::weighers().check(o.weigh, path + ".weigh");
    gates::balancers().check(o.balance, path + ".balance");
    gates::keepers().check(o.keep, path + ".keep");
  };
  return entry;
}

}  // namespace switchyard
