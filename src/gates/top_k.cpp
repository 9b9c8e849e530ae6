// Short form of the commonest chain: linear score, softmax, top-k. { kind = "top_k", k = 2 }.
#include "core/chain_gate.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

struct TopKGateOptions {
  int64_t k = 2;
  bool renormalise = true;
  double jitter_eps = 0;
  template <class V> void fields(V&& v) {
    v("k", k, "experts per token");
    v("renormalise", renormalise, "weights of the chosen sum to 1 (Mixtral); false: probabilities as they are (Switch, OLMoE)");
    v("jitter_eps", jitter_eps, "multiplicative input noise in training");
  }
};

ChainOptions as_chain(const TopKGateOptions& o) {
  ChainOptions chain;
  chain.select = {"top_k", {{"k", o.k}}};
  chain.weigh = o.renormalise ? "renormalise" : "raw";
  if (o.jitter_eps > 0) chain.noise = {"jitter", {{"eps", o.jitter_eps}}};
  return chain;
}

TopKGateOptions read(const ConfigNode& node, const std::string& path) {
  TopKGateOptions options;
  read_fields(options, node, path);
  return options;
}

}  // namespace

GateEntry gate_top_k() {
  return {.name = "top_k", .ref = "arXiv:1701.06538", .summary = "linear score, softmax, the k best experts of each token",
          .options = describe_fields<TopKGateOptions>(),
          .check = [](const ConfigNode& node, const std::string& path) { (void)read(node, path); },
          .make = [](const ConfigNode& node, const GateShape& shape) -> std::shared_ptr<Gate> {
            return std::make_shared<ChainGate>(as_chain(read(node, "")), shape);
          }};
}

}  // namespace switchyard
