#include "models/canonical_spec.h"

#include "base/config_tree.h"
#include "core/chain_gate.h"
#include "core/registries.h"
#include "models/encoder_stack.h"
#include "switchyard/expert_bank.h"
#include "switchyard/gate.h"
#include "switchyard/join.h"
#include "switchyard/mixer.h"

#include <algorithm>

namespace switchyard {
namespace {

template <class Entry>
BlockSpec with_defaults(const Registry<Entry>& registry, const BlockSpec& block) {
  BlockSpec out(block.kind);
  for (const auto& field : registry.find(block).options) {
    const ConfigNode* given = block.options.find(field.key);
    out.options.table()->emplace_back(field.key, given ? *given : field.default_value);
  }
  return out;
}

// linear -> softmax -> top-k -> renormalise | raw, with jitter or without: what the gate "top_k" says in short.
BlockSpec short_form(const BlockSpec& gate) {
  if (gate.kind != "chain") return gate;
  ChainOptions o;
  read_fields(o, gate.options);
  const auto option = [](const BlockSpec& block, const char* key, auto absent) {
    if (const ConfigNode* node = block.options.find(key)) read_any(*node, key, absent);
    return absent;
  };
  const bool renormalise = o.weigh.kind == "renormalise" || o.weigh.kind == "softmax_chosen", jitter = o.noise.kind == "jitter";
  if (o.pool.kind != "token" || o.score.kind != "linear" || option(o.score, "bias", false) || (o.noise.kind != "none" && !jitter) ||
      o.normalise.kind != "softmax" || option(o.normalise, "groups", int64_t{1}) != 1 || o.balance.kind != "none" || o.keep.kind != "all" ||
      o.combine != "outputs" || o.null_experts != 0 || o.select.kind != "top_k" || (o.weigh.kind != "raw" && !renormalise))
    return gate;
  return {"top_k",
          ConfigNode{{"k", option(o.select, "k", int64_t{2})}, {"renormalise", renormalise}, {"jitter_eps", jitter ? option(o.noise, "eps", 1e-2) : 0.0}}};
}

void make_canonical(MoESpec& m) {
  m.gate = short_form(m.gate);
  m.gate = with_defaults(gate_registry(), m.gate);
  m.experts = with_defaults(expert_registry(), m.experts);
  m.join = with_defaults(join_registry(), m.join);
  m.dispatcher = "local";  // how rows travel does not change what is computed, nor does what was accepted
  m.allow_lookahead = false;
  if (!m.capacity.limits(true) && !m.capacity.limits(false)) m.capacity = {};
  else m.capacity.priority = with_defaults(priority_registry(), m.capacity.priority);
  std::vector<BlockSpec> losses;
  for (const auto& block : m.losses) {
    LossSpec loss = read_loss(block);
    loss.term = with_defaults(loss_registry(), loss.term);
    if (loss.weight != 0) losses.push_back(write_loss(loss));
  }
  m.losses = std::move(losses);
}

// A pattern that says of every layer what would hold without it says nothing.
void drop_needless_pattern(ModelSpec& s) {
  ModelSpec plain = s;
  plain.pattern.clear();
  for (int64_t i = 0; i < s.num_layers; ++i)
    if (to_json(write_any(s.layer(i))) != to_json(write_any(plain.layer(i)))) return;
  s.pattern.clear();
}

}  // namespace

ModelSpec canonical(const ModelSpec& spec) {
  ModelSpec s = spec.resolved();
  if (!s.pattern.empty()) {
    drop_needless_pattern(s);
    const auto period = s.pattern;
    if (!period.empty())
      for (int64_t i = static_cast<int64_t>(period.size()); i < s.num_layers; ++i) s.pattern.push_back(period[static_cast<size_t>(i) % period.size()]);
  }
  if (s.encoder) s.encoder->pattern = canonical(encoder_spec(s)).pattern;
  s.ffn = with_defaults(expert_registry(), s.ffn);
  s.mixer = with_defaults(mixer_registry(), s.mixer);
  for (size_t i = 0; i < s.pattern.size(); ++i) {
    LayerSpec& layer = s.pattern[i];
    if (!layer.mixer && !layer.kind.starts_with("attention")) layer.mixer = s.layer(static_cast<int64_t>(i)).mixer;  // the word says it
    if (layer.mixer) layer.mixer = with_defaults(mixer_registry(), *layer.mixer);
  }
  if (s.mixer.kind == "mla") read_any(*s.mixer.options.find("rope_dim"), "rope_dim", s.head_dim);  // the mixer has widths of its own
  if (!s.moe) return s;
  make_canonical(*s.moe);
  bool has_dense = false;
  for (int64_t i = 0; i < s.num_layers; ++i) has_dense = has_dense || s.layer(i).d_ff.has_value();
  if (!has_dense) {
    s.d_ff = s.moe->d_expert;
    s.ffn = with_defaults(expert_registry(), "swiglu");
    s.moe->every = 1;
    s.moe->offset = s.moe->first_k_dense = 0;
    s.moe->where = {};
  }
  return s;
}

ModelSpec without_training_rules(ModelSpec spec) {
  if (!spec.moe) return spec;
  spec.moe->losses.clear();
  ConfigNode* balance = spec.moe->gate.kind == "chain" ? spec.moe->gate.options.find("balance") : nullptr;
  ConfigNode* gamma = balance && balance->is_table() ? balance->find("gamma") : nullptr;
  if (gamma) *gamma = ConfigNode(0.0);
  else if (balance && balance->string() && *balance->string() == "bias") *balance = ConfigNode{{"kind", "bias"}, {"gamma", 0.0}};
  return spec;
}

std::string first_difference(const nlohmann::ordered_json& a, const nlohmann::ordered_json& b) {
  const auto flat_a = a.flatten(), flat_b = b.flatten();
  const auto name = [](const std::string& pointer) {
    std::string key = pointer.substr(1);
    std::replace(key.begin(), key.end(), '/', '.');
    return key;
  };
  for (const auto& [pointer, value] : flat_a.items()) {
    if (!flat_b.contains(pointer)) return fmt::format("{} = {}", name(pointer), value.dump());
    if (flat_b[pointer] != value) return fmt::format("{} = {}, not {}", name(pointer), value.dump(), flat_b[pointer].dump());
  }
  for (const auto& [pointer, value] : flat_b.items())
    if (!flat_a.contains(pointer)) return fmt::format("no {} (it would be {})", name(pointer), value.dump());
  return "";
}

}  // namespace switchyard
