// Dense gate: every expert works, weighted by the softmax (Jacobs et al. 1991, doi:10.1162/neco.1991.3.1.79). The oracle of
// every sparse gate.
#include "core/chain_gate.h"

namespace switchyard {
GateEntry gate_dense() {
  return {.name = "dense", .ref = "doi:10.1162/neco.1991.3.1.79", .summary = "every expert, weighted by the softmax",
          .options = {},
          .check = [](const ConfigNode& node, const std::string& path) { NoOptions o; read_fields(o, node, path); },
          .make = [](const ConfigNode&, const GateShape& shape) -> std::shared_ptr<Gate> {
            ChainOptions chain;
            chain.select = "all";
            chain.weigh = "raw";
            return std::make_shared<ChainGate>(chain, shape);
          }};
}

}  // namespace switchyard
