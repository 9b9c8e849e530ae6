#include "models/miniature.h"

#include "base/config_tree.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace switchyard {
namespace {

constexpr int64_t kWidth = 32, kPositions = 64, kExperts = 8, kGroups = 4, kHeadDim = 8;

// Sizes that may stand among the options of a block, and how large they may be here.
int64_t most(const std::string& key) {
  if (key == "k" || key == "keep" || key == "best") return 2;
  if (key == "groups" || key == "devices" || key == "num_experts") return key == "num_experts" ? kExperts : kGroups;
  if (key == "q_rank") return 16;
  if (key == "kv_rank" || key == "nope_dim" || key == "v_dim" || key == "d_state") return 8;
  if (key == "rope_dim" || key == "d_conv") return 4;
  if (key == "window") return 16;
  if (key == "null_experts" || key == "num_slots") return 4;
  if (key == "hidden" || key == "dim") return 16;
  return 0;  // no size
}

void shrink(ConfigNode& node) {
  if (!node.is_table()) return;
  for (auto& [key, value] : *node.table()) {
    if (value.is_table()) shrink(value);
    const int64_t limit = most(key);
    if (limit == 0 || value.is_table()) continue;
    int64_t size = 0;
    if (std::holds_alternative<int64_t>(value.value)) size = std::get<int64_t>(value.value), value = ConfigNode(std::min(size, limit));
  }
}

// A scale that was given explicitly belongs to the width it was made for.
void rescale(BlockSpec& mixer, double old_width, double new_width) {
  ConfigNode* scale = mixer.options.is_table() ? mixer.options.find("scale") : nullptr;
  double value = 0;
  if (scale) read_any(*scale, "scale", value);
  if (value > 0) *scale = ConfigNode(value * std::sqrt(old_width / new_width));
}

double score_width(const ModelSpec& s, const BlockSpec& mixer) {
  const auto size = [&](const char* key) {
    int64_t out = 0;
    if (const ConfigNode* node = mixer.options.find(key)) read_any(*node, key, out);
    return static_cast<double>(out);
  };
  return mixer.kind == "mla" ? size("nope_dim") + size("rope_dim") : static_cast<double>(s.head_dim);
}

void shrink_mixer(BlockSpec& mixer, const ModelSpec& before, const ModelSpec& after) {
  const double old_width = score_width(before, mixer);
  shrink(mixer.options);
  rescale(mixer, old_width, score_width(after, mixer));
}

void shrink_layer(LayerSpec& layer, const ModelSpec& before, const ModelSpec& after) {
  if (layer.mixer) shrink_mixer(*layer.mixer, before, after);
  layer.d_ff = std::min<int64_t>(layer.d_ff, 2 * kWidth);
  shrink(layer.moe);
  layer.d_expert = 0;
}

void shrink_moe(MoESpec& m, const ModelSpec& before) {
  const double finer = static_cast<double>(m.d_expert) / static_cast<double>(std::max<int64_t>(1, before.d_ff));
  const int64_t wide = m.d_shared > 0 ? m.d_shared / std::max<int64_t>(1, m.d_expert) : 0;
  m.num_experts = std::min(m.num_experts, kExperts);
  m.d_expert = finer < 0.75 ? 16 : 2 * kWidth;
  m.num_shared_experts = std::min<int64_t>(m.num_shared_experts, 2);
  if (m.d_shared > 0) m.d_shared = m.d_expert * std::clamp<int64_t>(wide, 1, 4);
  m.first_k_dense = std::min<int64_t>(m.first_k_dense, 1);
  shrink(m.gate.options);
  for (auto& loss : m.losses) shrink(loss.options);
  if (m.capacity.devices > 0) m.capacity.devices = kGroups;
}

// Which layers stay: a round of everything that differs, and at least two.
void shrink_depth(ModelSpec& s) {
  if (s.pattern.empty()) {
    const int64_t round = s.moe ? s.moe->first_k_dense + s.moe->every : 1;
    s.num_layers = std::min(s.num_layers, std::max<int64_t>(2, round + (round == 1 ? 1 : s.moe->every)));
    return;
  }
  // A list that names every layer by itself becomes one layer of each kind, in their order.
  if (s.pattern.size() > 12) {
    std::set<std::string> seen;
    std::vector<LayerSpec> kinds;
    for (const auto& layer : s.pattern)
      if (seen.insert(to_json(write_any(layer)).dump()).second) kinds.push_back(layer);
    s.pattern = std::move(kinds);
  }
  const auto round = static_cast<int64_t>(s.pattern.size());
  s.num_layers = std::min(s.num_layers, round < 2 ? 2 : round);
}

void shrink_encoder(ModelSpec& s, const ModelSpec& before) {
  ModelSpec stack = s;
  stack.num_layers = s.encoder->num_layers;
  stack.pattern = s.encoder->pattern;
  for (auto& layer : stack.pattern) shrink_layer(layer, before, s);
  shrink_depth(stack);
  s.encoder->num_layers = stack.num_layers;
  s.encoder->pattern = stack.pattern;
}

}  // namespace

ModelSpec miniature(const ModelSpec& spec, int64_t vocab_size) {
  ModelSpec before = spec;
  if (before.vocab_size == 0) before.vocab_size = vocab_size;
  before = before.resolved();
  ModelSpec s = before;
  s.vocab_size = vocab_size;
  s.d_model = std::min(s.d_model, kWidth);
  const int64_t group = s.num_heads / s.num_kv_heads;
  s.num_kv_heads = std::min<int64_t>(s.num_kv_heads, group > 1 ? 2 : 4);
  s.num_heads = s.num_kv_heads * std::min<int64_t>(group, 2);
  s.head_dim = std::min(s.head_dim, kHeadDim);
  s.d_ff = std::min(s.d_ff, 2 * kWidth);
  s.max_positions = std::min(s.max_positions, kPositions);
  s.init_std = std::max(s.init_std, 0.02);
  s.embed_scale = std::min(s.embed_scale, std::sqrt(static_cast<double>(s.d_model)));
  if (s.rope.dims > 0) s.rope.dims = std::max<int64_t>(2, s.rope.dims * s.head_dim / before.head_dim / 2 * 2);
  if (s.rope.original_positions > 0) s.rope.original_positions = std::min<int64_t>(s.rope.original_positions, kPositions / 4);
  const auto pairs = static_cast<size_t>((s.rope.dims > 0 ? s.rope.dims : s.head_dim) / 2);
  for (auto* factors : {&s.rope.short_factor, &s.rope.long_factor})
    if (factors->size() > pairs) factors->resize(pairs);
  shrink_mixer(s.mixer, before, s);
  for (auto& layer : s.pattern) shrink_layer(layer, before, s);
  if (s.moe) shrink_moe(*s.moe, before);
  shrink_depth(s);
  if (s.encoder) shrink_encoder(s, before);
  return s.resolved();
}

}  // namespace switchyard
