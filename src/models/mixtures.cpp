#include "models/mixtures.h"

#include "base/nearest_name.h"
#include "models/mixer_of.h"
#include "switchyard/error.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace switchyard {
namespace {

template <class T> bool contains(const std::vector<T>& items, const T& item) { return std::find(items.begin(), items.end(), item) != items.end(); }

bool in_layer(const MixtureSpec& m, int64_t layer) { return m.layers.empty() || contains(m.layers, layer); }

// What a mixture is at a site, without its place in the model.
MoEOptions options_at(const ModelSpec& spec, size_t index, const Site& site) {
  const MixtureSpec& m = spec.mixtures[index];
  MoEOptions options{.num_experts = m.num_experts, .gate = m.gate, .experts = m.experts, .causal = spec.causal && !m.allow_lookahead};
  try {
    return fitted(std::move(options), site, m.per_head);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("model.mixtures[{}]: {}", index, error.what()));
  }
}

GateShape gate_shape(const MoEOptions& o, int64_t layer) {
  return {.d_model = o.d_model, .num_experts = o.num_experts, .layer = layer, .d_out = o.d_out};
}

BankShape empty_bank(const MoEOptions& o) {
  return {.d_model = o.d_model, .d_expert = o.d_expert, .num_local_experts = 0, .init_std = 0, .init_out_std = 0, .d_out = o.d_out, .heads = o.heads};
}

void check_numbers(const ModelSpec& spec, const MixtureSpec& m, const std::string& path) {
  if (m.sites.empty()) fail(ErrorKind::config, "{}.sites is empty; expected names such as 'attn.q' or 'ffn.down'", path);
  if (std::set<std::string>(m.sites.begin(), m.sites.end()).size() != m.sites.size()) fail(ErrorKind::config, "{}.sites names a site twice", path);
  if (m.num_experts < 1) fail(ErrorKind::config, "{}.num_experts = {}, expected at least 1", path, m.num_experts);
  for (const int64_t layer : m.layers)
    if (layer < 0 || layer >= spec.num_layers) fail(ErrorKind::config, "{}.layers holds {}, expected 0 to {}", path, layer, spec.num_layers - 1);
  for (const int64_t tag : m.tags)
    if (tag < 0) fail(ErrorKind::config, "{}.tags holds {}, expected 0 or more", path, tag);
}

// A named layer must have the site; of all layers one that has it is enough.
void check_places(const ModelSpec& spec, const MixtureSpec& m, const std::string& path) {
  std::vector<std::string> known;
  std::vector<std::set<std::string>> of_layer(static_cast<size_t>(spec.num_layers));
  for (int64_t layer = 0; layer < spec.num_layers; ++layer)
    for (const Site& site : sites_of(spec, layer)) {
      of_layer[static_cast<size_t>(layer)].insert(site.name);
      if (!contains(known, site.name)) known.push_back(site.name);
    }
  for (const auto& name : m.sites) {
    if (!contains(known, name))
      fail(ErrorKind::config, "{}.sites: no layer has '{}'{}; the sites of this model: {}", path, name, suggestion(name, known), fmt::join(known, ", "));
    for (const int64_t layer : m.layers)
      if (!of_layer[static_cast<size_t>(layer)].count(name)) fail(ErrorKind::config, "{}.layers: layer {} has no site '{}'", path, layer, name);
  }
}

// One gate and a bank without experts: only they know which sizes they accept.
void check_parts(const ModelSpec& spec, size_t index, const Site& site, int64_t layer, const std::string& path) {
  const auto options = options_at(spec, index, site);
  (void)expert_registry().make(options.experts, empty_bank(options));
  const auto gate = gate_registry().make(options.gate, gate_shape(options, layer));
  if (gate->experts_per_token() > static_cast<double>(options.num_experts))
    fail(ErrorKind::config, "{}.gate '{}' asks for {} experts per token, more than num_experts = {}", path, options.gate.kind, gate->experts_per_token(),
         options.num_experts);
  if (options.causal && gate->looks_ahead())
    fail(ErrorKind::config, "{}{}.gate = '{}': what a token gets depends on later tokens, and the model is causal: it leaks the future; use another gate, or "
         "model.causal = false, or say {}.allow_lookahead = true", options.gate.options.location(), path, options.gate.kind, path);
}

}  // namespace

std::vector<Site> sites_of(const ModelSpec& spec, int64_t layer) {
  const LayerPlan plan = spec.layer(layer);
  const auto mixer = sizes_of_mixer(spec, layer);
  auto out = mixer ? mixer->sites() : std::vector<Site>();
  if (!plan.d_ff) return out;
  const BankShape shape{.d_model = spec.d_model, .d_expert = *plan.d_ff, .num_local_experts = 0, .init_std = 0, .init_out_std = 0};
  for (Site& site : expert_registry().make(plan.ffn, shape)->sites()) out.push_back(std::move(site));
  return out;
}

std::shared_ptr<SiteMixtures> make_mixtures(const ModelSpec& spec, int64_t layer, std::optional<uint64_t> seed) {
  std::vector<SiteMixture> places;
  if (spec.mixtures.empty()) return nullptr;
  for (const Site& site : sites_of(spec, layer))
    for (size_t i = 0; i < spec.mixtures.size(); ++i) {
      const MixtureSpec& m = spec.mixtures[i];
      if (!in_layer(m, layer) || !contains(m.sites, site.name)) continue;
      auto options = options_at(spec, i, site);
      options.layer = layer;
      options.init_std = options.init_out_std = seed ? spec.init_std : 0;
      options.seed = RandomStream(seed.value_or(0)).at("mixture", i).at(site.name).bits(0);
      places.push_back({static_cast<int64_t>(i), site, nullptr, m.tags, options.heads});
      places.back().moe = std::make_shared<MoELayer>(std::move(options));
    }
  return places.empty() ? nullptr : std::make_shared<SiteMixtures>(std::move(places));
}

void check_mixtures(const ModelSpec& spec) {
  for (size_t i = 0; i < spec.mixtures.size(); ++i) {
    const MixtureSpec& m = spec.mixtures[i];
    const auto path = fmt::format("model.mixtures[{}]", i);
    check_numbers(spec, m, path);
    expert_registry().check(m.experts, path + ".experts");
    gate_registry().check(m.gate, path + ".gate");
    check_places(spec, m, path);
    check_losses(m.losses, path + ".losses");
    std::set<std::string> seen;
    for (int64_t layer = 0; layer < spec.num_layers; ++layer)
      for (const Site& site : sites_of(spec, layer))
        if (in_layer(m, layer) && contains(m.sites, site.name) && seen.insert(site.name).second) check_parts(spec, i, site, layer, path);
  }
}

std::vector<ParameterCount::Part> count_mixtures(const ModelSpec& spec) {
  ParameterCount::Part routers{"mixture routers"}, experts{"mixture experts"};
  for (int64_t layer = 0; layer < spec.num_layers; ++layer)
    for (const Site& site : sites_of(spec, layer))
      for (size_t i = 0; i < spec.mixtures.size(); ++i) {
        const MixtureSpec& m = spec.mixtures[i];
        if (!in_layer(m, layer) || !contains(m.sites, site.name)) continue;
        const auto options = options_at(spec, i, site);
        const auto gate = gate_registry().make(m.gate, gate_shape(options, layer));
        const auto bank = expert_registry().make(m.experts, empty_bank(options));
        int64_t common = 0;
        for (const auto& p : bank->parameters()) common += p.numel();  // the bank has no expert
        const double k = gate->experts_per_token(), rows = static_cast<double>(options.heads);
        routers.total += gate->num_parameters();
        routers.flops_per_token += rows * 2.0 * static_cast<double>(gate->num_parameters());
        experts.total += common + m.num_experts * bank->parameters_per_expert();
        experts.active += common + static_cast<int64_t>(k * static_cast<double>(bank->parameters_per_expert()));
        experts.flops_per_token += rows * k * bank->flops_per_row();
      }
  routers.active = routers.total;
  return {routers, experts};
}

}  // namespace switchyard
