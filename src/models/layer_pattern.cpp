// Layers as words. A layer is a mixer, a feed-forward network, or both in this order; each has a norm and a residual sum of
// its own, so that ["attention", "dense"] as two layers computes what ["attention+dense"] does as one, a dense network
// behind "attention+moe" is that of ST-MoE (arXiv:2202.08906), and a list of any length is a block of Brainformer
// (arXiv:2306.00008).
#include "models/layer_pattern.h"

#include "base/nearest_name.h"
#include "models/placement.h"
#include "switchyard/error.h"
#include "switchyard/mixer.h"

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

struct Words {
  std::string mixer = "";  // "attention" = the model's
  bool dense = false, moe = false;
};

std::vector<std::string> split_words(const std::string& kind) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin <= kind.size();) {
    const size_t end = std::min(kind.find('+', begin), kind.size());
    out.push_back(kind.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

Words words_of(const LayerSpec& layer, size_t entry) {
  std::vector<std::string> mixers;
  for (const auto& known : mixer_registry().all()) mixers.push_back(known.name);
  Words out;
  int done = 0;  // mixer, dense, moe: in this order, each at most once
  for (const auto& word : split_words(layer.kind)) {
    const int place = word == "dense" ? 2 : word == "moe" ? 3 : std::find(mixers.begin(), mixers.end(), word) != mixers.end() ? 1 : 0;
    if (place == 0) {
      std::vector<std::string> known = mixers;
      for (const auto& mixer : mixers)
        for (const char* network : {"+dense", "+moe", "+dense+moe"}) known.push_back(mixer + network);
      known.insert(known.end(), {"dense", "moe"});
      fail(ErrorKind::config, "model.pattern[{}] = '{}' is no layer{}", entry, layer.kind, suggestion(layer.kind, known));
    }
    if (place <= done) fail(ErrorKind::config, "model.pattern[{}] = '{}': expected a mixer, dense, moe, in this order, each at most once", entry, layer.kind);
    done = place;
    if (place == 1) out.mixer = word;
    out.dense = out.dense || place == 2;
    out.moe = out.moe || place == 3;
  }
  return out;
}

// Keys that say which layers have experts, or that hold for all layers together.
void refuse_model_keys(const LayerSpec& layer, size_t entry) {
  for (const char* key : {"every", "offset", "first_k_dense", "where"})
    if (const auto* node = layer.moe.find(key))
      fail(ErrorKind::config, "{}model.pattern[{}].moe.{}: the pattern itself says which layers have experts", node->location(), entry, key);
  if (const auto* node = layer.moe.find("losses"))
    fail(ErrorKind::config, "{}model.pattern[{}].moe.losses: losses go over all layers; they belong to model.moe", node->location(), entry);
}

MoESpec experts_of(const ModelSpec& s, const LayerSpec& layer, size_t entry) {
  if (!s.moe) fail(ErrorKind::config, "model.pattern[{}] = '{}', but the model has no [model.moe]", entry, layer.kind);
  MoESpec out = *s.moe;
  if (!layer.moe.is_null()) {
    refuse_model_keys(layer, entry);
    read_fields(out, layer.moe, fmt::format("model.pattern[{}].moe", entry));
  }
  if (layer.d_expert == 0) return out;
  if (layer.moe.find("d_expert") && out.d_expert != layer.d_expert)
    fail(ErrorKind::config, "model.pattern[{}]: d_expert = {}, but moe.d_expert = {}; give one of them", entry, layer.d_expert, out.d_expert);
  out.d_expert = layer.d_expert;
  return out;
}

SumSpec sum_of(const ModelSpec& s, const std::optional<SumSpec>& given) {
  const SumSpec sum = given.value_or(SumSpec{});
  return {.stream_scale = sum.stream_scale == 0 ? s.stream_scale : sum.stream_scale,
          .residual_scale = sum.residual_scale == 0 ? s.residual_scale : sum.residual_scale};
}

LayerPlan plan_of(const ModelSpec& s, size_t entry) {
  const LayerSpec& layer = s.pattern[entry];
  const Words words = words_of(layer, entry);
  LayerPlan out{.mixer = {}, .d_ff = {}, .ffn = layer.ffn.value_or(s.ffn), .moe = {}, .mixer_sum = sum_of(s, layer.mixer_sum), .network_sum = sum_of(s, layer.network_sum)};
  if (!words.mixer.empty()) out.mixer = layer.mixer.value_or(words.mixer == "attention" ? s.mixer : BlockSpec(words.mixer));
  if (words.dense) out.d_ff = layer.d_ff > 0 ? layer.d_ff : s.d_ff;
  if (words.moe) out.moe = experts_of(s, layer, entry);
  return out;
}

void refuse(const LayerSpec& layer, size_t entry, const char* key, const char* part) {
  fail(ErrorKind::config, "model.pattern[{}] = '{}' has {}, but no {}", entry, layer.kind, key, part);
}

// What says the same as the model says nothing.
void resolve_sum(const ModelSpec& s, size_t entry, const char* key, std::optional<SumSpec>& given) {
  if (!given) return;
  for (const auto& [name, value] : {std::pair{"stream_scale", given->stream_scale}, {"residual_scale", given->residual_scale}})
    if (!(value >= 0 && std::isfinite(value))) fail(ErrorKind::config, "model.pattern[{}].{}.{} = {}, expected more than 0, or 0 for the model's", entry, key, name, value);
  given = sum_of(s, given);
  if (given->stream_scale == s.stream_scale && given->residual_scale == s.residual_scale) given.reset();
}

void resolve(ModelSpec& s, size_t entry) {
  LayerSpec& layer = s.pattern[entry];
  const Words words = words_of(layer, entry);
  for (const auto& [key, value] : {std::pair{"d_ff", layer.d_ff}, {"d_expert", layer.d_expert}})
    if (value < 0) fail(ErrorKind::config, "model.pattern[{}].{} = {}, expected 1 or more, or 0 for the model's", entry, key, value);
  if (words.mixer.empty() && layer.mixer) refuse(layer, entry, "mixer", "mixer");
  if (layer.mixer && words.mixer != "attention" && layer.mixer->kind != words.mixer)
    fail(ErrorKind::config, "model.pattern[{}] = '{}' has mixer = '{}'; give one of the two", entry, layer.kind, layer.mixer->kind);
  if (!words.dense && layer.d_ff != 0) refuse(layer, entry, "d_ff", "dense network");
  if (!words.dense && layer.ffn) refuse(layer, entry, "ffn", "dense network");
  if (words.mixer.empty() && layer.mixer_sum) refuse(layer, entry, "mixer_sum", "mixer");
  if (!words.dense && !words.moe && layer.network_sum) refuse(layer, entry, "network_sum", "network");
  resolve_sum(s, entry, "mixer_sum", layer.mixer_sum);
  resolve_sum(s, entry, "network_sum", layer.network_sum);
  if (!words.moe && layer.d_expert != 0) refuse(layer, entry, "d_expert", "experts");
  if (!words.moe && !layer.moe.is_null()) refuse(layer, entry, "moe", "experts");
  const LayerPlan plan = plan_of(s, entry);
  if (plan.d_ff) layer.d_ff = *plan.d_ff;
  if (plan.moe) layer.d_expert = plan.moe->d_expert > 0 ? plan.moe->d_expert : s.d_ff;
}

}  // namespace

bool ModelSpec::is_moe_layer(int64_t layer) const {
  if (!pattern.empty()) {
    const size_t entry = static_cast<size_t>(layer) % pattern.size();
    return words_of(pattern[entry], entry).moe;
  }
  return moe && placed(*moe, layer, num_layers);
}

LayerPlan ModelSpec::layer(int64_t layer) const {
  if (!pattern.empty()) return plan_of(*this, static_cast<size_t>(layer) % pattern.size());
  LayerPlan out{.mixer = mixer, .d_ff = {}, .ffn = ffn, .moe = {}, .mixer_sum = sum_of(*this, {}), .network_sum = sum_of(*this, {})};
  if (is_moe_layer(layer)) out.moe = moe;
  else out.d_ff = d_ff;
  return out;
}

int64_t ModelSpec::num_branches() const {
  if (pattern.empty()) return 2 * num_layers;
  int64_t branches = 0;
  for (int64_t i = 0; i < num_layers; ++i) {
    const size_t entry = static_cast<size_t>(i) % pattern.size();
    const Words words = words_of(pattern[entry], entry);
    branches += !words.mixer.empty() + words.dense + words.moe;
  }
  return branches;
}

std::vector<LayerGroup> layer_groups(const ModelSpec& spec) {
  std::vector<LayerGroup> out;
  const auto period = static_cast<int64_t>(spec.pattern.size());
  for (int64_t i = 0; i < std::min(period, spec.num_layers); ++i) out.push_back({spec.layer(i), i, (spec.num_layers - i + period - 1) / period});
  if (period > 0) return out;
  int64_t first[2] = {-1, -1}, count[2] = {0, 0};
  for (int64_t i = 0; i < spec.num_layers; ++i) {
    const int moe = spec.is_moe_layer(i) ? 1 : 0;
    if (count[moe]++ == 0) first[moe] = i;
  }
  for (const int moe : {0, 1})
    if (count[moe] > 0) out.push_back({spec.layer(first[moe]), first[moe], count[moe]});
  return out;
}

void resolve_pattern(ModelSpec& spec) {
  if (static_cast<int64_t>(spec.pattern.size()) > spec.num_layers)
    fail(ErrorKind::config, "model.pattern has {} entries, but num_layers = {}: the last ones would have no layer", spec.pattern.size(), spec.num_layers);
  if (spec.moe && (spec.moe->every != 1 || spec.moe->offset != 0 || spec.moe->first_k_dense != 0))
    fail(ErrorKind::config, "model.moe: every = {}, offset = {}, first_k_dense = {}, but model.pattern says which layers have experts; give one of the two",
         spec.moe->every, spec.moe->offset, spec.moe->first_k_dense);
  if (spec.moe && spec.moe->where.kind != "every")
    fail(ErrorKind::config, "model.moe.where = '{}', but model.pattern says which layers have experts; give one of the two", spec.moe->where.kind);
  for (size_t entry = 0; entry < spec.pattern.size(); ++entry) resolve(spec, entry);
}

}  // namespace switchyard
