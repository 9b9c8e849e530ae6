// Auxiliary losses: each one a function of RoutingStats, weighted and reduced over layers here.
#pragma once

#include "switchyard/plug_in.h"
#include "switchyard/routing_stats.h"

#include <string>
#include <vector>

namespace switchyard {

class LossTerm {
 public:
  virtual ~LossTerm() = default;
  // Raw value, a float32 scalar with gradient.
  [[nodiscard]] virtual torch::Tensor value(const RoutingStats& stats) const = 0;
  // One value over the tokens of all layers (layer_reduce = "pooled"): that of pooled(layers), which must have one shape. A loss
  // that reads what layers of any shape have in common overrides it.
  [[nodiscard]] virtual torch::Tensor pooled_value(std::span<const RoutingStats> layers) const { return value(pooled(layers)); }
};

using LossEntry = PlugIn<LossTerm>;
Registry<LossEntry>& loss_registry();

// One line of a recipe: { kind = "load_balance", weight = 0.01, layer_reduce = "sum", ...options of the loss }.
struct LossSpec {
  BlockSpec term;  // `weight` and `layer_reduce` taken out of its options
  double weight = 0;
  std::string layer_reduce = "sum";  // sum | mean over MoE layers | pooled: one value over the tokens of all layers

  LossSpec() = default;
  LossSpec(std::string kind, double w) : term(std::move(kind)), weight(w) {}
};
[[nodiscard]] LossSpec read_loss(const BlockSpec& spec);

// That every one of them can be read, is known and has a finite weight. Throws Error{config}, which names `key`[i].
void check_losses(const std::vector<BlockSpec>& losses, const std::string& key);
[[nodiscard]] BlockSpec write_loss(const LossSpec& spec);

struct LossValue {
  std::string name;
  double raw = 0, weighted = 0;  // raw: summed or averaged over layers as layer_reduce says
};

struct AuxLoss {
  torch::Tensor total;  // float32 scalar with gradient; zero when there are no terms
  std::vector<LossValue> values;
};

class AuxLosses {
 public:
  explicit AuxLosses(const std::vector<LossSpec>& specs);
  [[nodiscard]] AuxLoss operator()(std::span<const RoutingStats> layers) const;

 private:
  struct Item { LossSpec spec; std::shared_ptr<LossTerm> term; };
  std::vector<Item> items_;
};

}  // namespace switchyard
