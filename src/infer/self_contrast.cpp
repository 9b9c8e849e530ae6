#include "infer/self_contrast.h"

#include "core/chain_gate.h"
#include "models/with_spec.h"
#include "switchyard/error.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace switchyard {
namespace {

ConfigNode ranks_block(const std::vector<int64_t>& ranks) {
  ConfigNode::Array list;
  for (const int64_t rank : ranks) list.emplace_back(rank);
  return ConfigNode(ConfigNode::Table{{"kind", "ranks"}, {"ranks", ConfigNode(list)}});
}

BlockSpec weak_gate(const BlockSpec& gate, const std::vector<int64_t>& ranks) {
  ConfigNode::Table chain{{"select", ranks_block(ranks)}, {"allow_constant_weight", true}};
  if (gate.kind == "top_k") {
    bool renormalise = true;
    if (const auto* node = gate.options.find("renormalise")) read_any(*node, "renormalise", renormalise);
    chain.emplace_back("weigh", renormalise ? "renormalise" : "raw");
    return {"chain", ConfigNode(chain)};
  }
  ChainOptions options;
  if (gate.kind == "chain") read_fields(options, gate.options);
  if (gate.kind != "chain" || options.select.kind != "top_k")
    fail(ErrorKind::unsupported, "self-contrast needs tokens that choose their k best experts; gate '{}' does not", gate.kind);
  for (const auto& [key, value] : *gate.options.table())
    if (key != "select" && key != "allow_constant_weight") chain.emplace_back(key, value);
  return {"chain", ConfigNode(chain)};
}

}  // namespace

void check_contrast(const ContrastOptions& o) {
  if (!(o.beta >= 0)) fail(ErrorKind::usage, "contrast beta = {}, expected 0 or more", o.beta);
  if (!(o.alpha > 0 && o.alpha <= 1)) fail(ErrorKind::usage, "contrast alpha = {}, expected more than 0 and at most 1", o.alpha);
}

std::vector<float> contrast(std::span<const float> strong, std::span<const float> weak, double beta, double alpha) {
  std::vector<float> out(strong.size(), -std::numeric_limits<float>::infinity());
  if (strong.empty()) return out;
  const double cutoff = *std::max_element(strong.begin(), strong.end()) + std::log(alpha);
  for (size_t i = 0; i < strong.size(); ++i)
    if (strong[i] >= cutoff) out[i] = static_cast<float>((1 + beta) * strong[i] - beta * weak[i]);
  return out;
}

std::shared_ptr<LanguageModel> with_ranks(LanguageModel& model, const std::vector<int64_t>& ranks) {
  ModelSpec spec = model.spec();
  if (!spec.moe) fail(ErrorKind::unsupported, "self-contrast needs experts; the model is dense");
  spec.moe->gate = weak_gate(spec.moe->gate, ranks);
  for (LayerSpec& layer : spec.pattern) {
    ConfigNode* own = layer.moe.find("gate");
    if (!own) continue;
    BlockSpec gate;
    read_any(*own, "gate", gate);
    *own = write_any(weak_gate(gate, ranks));
  }
  return with_spec(model, spec);
}

}  // namespace switchyard
