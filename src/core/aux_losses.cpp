#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <cmath>

namespace switchyard {
LossSpec read_loss(const BlockSpec& block) {
  LossSpec out;
  out.term.kind = block.kind;
  out.term.options.where = block.options.where;
  for (const auto& [key, value] : *block.options.table()) {
    if (key == "weight") read_any(value, "losses." + block.kind + ".weight", out.weight);
    else if (key == "layer_reduce") read_any(value, "losses." + block.kind + ".layer_reduce", out.layer_reduce);
    else out.term.options.table()->emplace_back(key, value);
  }
  if (out.layer_reduce != "sum" && out.layer_reduce != "mean" && out.layer_reduce != "pooled")
    fail(ErrorKind::config, "{}loss {}: layer_reduce = '{}', expected sum, mean or pooled", block.options.location(), block.kind, out.layer_reduce);
  if (!(out.weight >= 0)) fail(ErrorKind::config, "{}loss {}: weight = {}, expected 0 or more", block.options.location(), block.kind, out.weight);
  loss_registry().check(out.term, "losses." + block.kind);
  return out;
}

void check_losses(const std::vector<BlockSpec>& losses, const std::string& key) {
  for (size_t i = 0; i < losses.size(); ++i) {
    const LossSpec loss = read_loss(losses[i]);
    const auto path = fmt::format("{}[{}]", key, i);
    loss_registry().check(loss.term, path);
    if (!std::isfinite(loss.weight)) fail(ErrorKind::config, "{}.weight = {}, expected a finite number", path, loss.weight);
  }
}

BlockSpec write_loss(const LossSpec& spec) {
  BlockSpec out = spec.term;
  out.options.table()->emplace_back("weight", spec.weight);
  out.options.table()->emplace_back("layer_reduce", spec.layer_reduce);
  return out;
}

AuxLosses::AuxLosses(const std::vector<LossSpec>& specs) {
  for (const auto& spec : specs) items_.push_back({spec, loss_registry().make(spec.term)});
}

AuxLoss AuxLosses::operator()(std::span<const RoutingStats> layers) const {
  AuxLoss out{torch::zeros({}), {}};
  if (layers.empty()) return out;
  for (const auto& [spec, term] : items_) {
    torch::Tensor raw = torch::zeros({}), scaled = raw;  // scaled: a gate may adapt the coefficient of its layer
    const auto add = [&](const torch::Tensor& value, double loss_scale) {
      raw = raw + value.detach();
      scaled = scaled + value * loss_scale;
    };
    const double share = spec.layer_reduce == "mean" ? 1 / static_cast<double>(layers.size()) : 1.0;
    if (spec.layer_reduce == "pooled") add(term->pooled_value(layers), layers[0].loss_scale);
    else for (const auto& stats : layers) add(term->value(stats) * share, stats.loss_scale);
    const auto weighted = scaled * spec.weight;
    out.total = out.total + weighted;
    out.values.push_back({spec.term.kind, raw.item<double>(), weighted.item<double>()});
  }
  return out;
}

}  // namespace switchyard
