#include "layer/site_mixture.h"

#include "core/beside.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace switchyard {
namespace {

// A token becomes `heads` tokens, one behind the other.
GateInput by_head(GateInput tokens, int64_t heads) {
  for (torch::Tensor* of_token : {&tokens.valid, &tokens.token_ids, &tokens.sequence_ids, &tokens.tags, &tokens.positions, &tokens.previous_ids})
    if (of_token->defined()) *of_token = of_token->repeat_interleave(heads);
  tokens.first_token *= heads;
  return tokens;
}

std::string module_name(std::string site) {
  std::replace(site.begin(), site.end(), '.', '_');
  return site;
}

}  // namespace

GateInput SiteMixture::members(const GateInput& tokens) const {
  GateInput in = tokens;
  in.random = tokens.random.at("mixture", static_cast<uint64_t>(mixture)).at(site.name);
  if (!tags.empty()) {
    if (!tokens.tags.defined()) fail(ErrorKind::usage, "mixture {} at {} takes tokens by their tags: the call has none", mixture, site.name);
    const auto member = at::isin(tokens.tags, torch::tensor(tags, torch::kInt64));
    in.valid = tokens.valid.defined() ? tokens.valid & member : member;
  }
  return heads > 1 ? by_head(std::move(in), heads) : in;
}

torch::Tensor SiteMixture::operator()(const torch::Tensor& x, const torch::Tensor& y, const GateInput& tokens, RoutingStats& stats) const {
  const auto in = members(tokens);
  const bool rescales = moe->experts().rescales();
  const auto rows = (rescales ? y : x).reshape({-1, moe->options().d_model});
  MoETrace trace;
  const auto out = moe->forward(rows, in, &trace);
  stats = std::move(trace.stats);
  if (!rescales) return y + out.view(y.sizes());
  // Who takes no part keeps what it has.
  return (in.valid.defined() ? at::where(beside(rows, in.valid).unsqueeze(1), out, rows) : out).view(y.sizes());
}

MoEOptions fitted(MoEOptions o, const Site& site, bool per_head) {
  const auto bank = expert_registry().make(o.experts, BankShape{.d_model = site.d_in, .d_expert = 1, .num_local_experts = 0, .init_std = 0, .init_out_std = 0,
                                                                .d_out = site.d_out});
  if (per_head && !bank->rescales())
    fail(ErrorKind::config, "per_head = true needs experts that rescale what a head gives, such as 'scale'; '{}' read the input of all heads", o.experts.kind);
  if (!bank->rescales() && site.d_in != site.d_out && !bank->changes_width())
    fail(ErrorKind::config, "experts '{}' give back rows as wide as those they get, but {} makes {} of {}; use 'lora'", o.experts.kind, site.name, site.d_out,
         site.d_in);
  o.heads = per_head ? site.heads : 1;
  o.d_out = site.d_out / o.heads;
  o.d_model = o.d_expert = bank->rescales() ? o.d_out : site.d_in;
  return o;
}

SiteMixtures::SiteMixtures(std::vector<SiteMixture> places) : places_(std::move(places)) {
  std::map<int64_t, std::shared_ptr<torch::nn::Module>> of_mixture;
  for (const SiteMixture& place : places_) {
    auto& group = of_mixture[place.mixture];
    const auto number = std::to_string(place.mixture);
    if (!group) group = register_module(number, std::make_shared<torch::nn::Module>(number));
    group->register_module(module_name(place.site.name), place.moe);
  }
}

SiteHook SiteMixtures::hook(GateInput tokens, std::vector<MixtureStats>& done) const {
  return [this, tokens = std::move(tokens), &done](std::string_view site, const torch::Tensor& x, const torch::Tensor& y) {
    auto out = y;
    for (const SiteMixture& place : places_) {
      if (place.site.name != site) continue;
      done.push_back({place.mixture, place.site.name, {}});
      out = place(x, out, tokens, done.back().stats);
    }
    return out;
  };
}

}  // namespace switchyard
