// Closed forms from the sizes alone. Two questions go to plug-ins: a bank without experts knows the size of one, and a gate
// (small) counts itself.
#include "models/encoder_stack.h"
#include "models/layer_pattern.h"
#include "models/mixer_of.h"
#include "models/mixtures.h"
#include "models/norm.h"
#include "models/position_tables.h"
#include "switchyard/error.h"
#include "switchyard/expert_bank.h"
#include "switchyard/gate.h"
#include "switchyard/join.h"
#include "switchyard/model_spec.h"

namespace switchyard {
namespace {

using Part = ParameterCount::Part;

struct ExpertSize {
  int64_t parameters, active;
  double flops;    // per row
  int64_t common;  // parameters of the bank that belong to no expert
};

ExpertSize size_of(const BlockSpec& kind, int64_t d_model, int64_t d_expert, int64_t num_experts = 1) {
  const auto bank = expert_registry().make(
      kind, BankShape{.d_model = d_model, .d_expert = d_expert, .num_experts = num_experts, .num_local_experts = 0, .init_std = 0, .init_out_std = 0});
  int64_t common = 0;
  for (const auto& p : bank->parameters()) common += p.numel();  // the bank has no expert
  return {bank->parameters_per_expert(), bank->active_parameters_per_expert(), bank->flops_per_row(), common};
}

// A matrix that multiplies every token: two FLOPs per parameter.
Part matrix(const char* name, int64_t parameters) { return {name, parameters, parameters, 2.0 * static_cast<double>(parameters)}; }

// Causal attention sees half of the positions on average.
double keys_of(const ModelSpec& s) { return static_cast<double>(s.max_positions) / (s.causal ? 2 : 1); }

Part mixer_part(const ModelSpec& s, const LayerGroup& group) {
  const auto mixer = sizes_of_mixer(s, group.first);
  return {"attention", group.count * mixer->num_parameters(), group.count * mixer->active_parameters(), static_cast<double>(group.count) * mixer->flops_per_token(keys_of(s))};
}

// Parts of one name are one line of the table.
void add(std::vector<Part>& parts, const Part& more) {
  for (auto& part : parts) {
    if (part.name != more.name) continue;
    part.total += more.total;
    part.active += more.active;
    part.flops_per_token += more.flops_per_token;
    return;
  }
  parts.push_back(more);
}

void add_dense(std::vector<Part>& parts, const ModelSpec& s, const LayerPlan& plan, int64_t layers) {
  const auto one = size_of(plan.ffn, s.d_model, *plan.d_ff);
  add(parts, {"dense feed-forward", layers * (one.parameters + one.common), layers * (one.active + one.common), static_cast<double>(layers) * one.flops});
}

// Layers of which there are copies (moe.site = "layer"): mixer, two norms and the network, once per copy.
void add_layer_copies(std::vector<Part>& parts, const ModelSpec& s, const LayerGroup& group) {
  const MoESpec& m = *s.moe;
  const auto gate = gate_registry().make(m.gate, GateShape{.d_model = s.d_model, .num_experts = m.num_experts});
  add(parts, matrix("router", group.count * gate->num_parameters()));
  const Part heads = mixer_part(s, group);
  const auto network = size_of(m.experts, s.d_model, m.d_expert);
  const int64_t one = heads.total + group.count * (network.parameters + network.common + 2 * norm_size(s));
  const double k = gate->experts_per_token();
  add(parts, {"copies of layers", m.num_experts * one, static_cast<int64_t>(k * static_cast<double>(one)),
              k * (heads.flops_per_token + static_cast<double>(group.count) * network.flops)});
}

// `first`: no layer before these has experts.
void add_moe(std::vector<Part>& parts, const ModelSpec& s, const MoESpec& m, int64_t moe_layers, bool first) {
  const GateShape place{.d_model = s.d_model, .num_experts = m.num_experts};
  const auto gate = gate_registry().make(m.gate, place);
  add(parts, matrix("router", moe_layers * gate->num_parameters()));
  const auto expert = size_of(m.experts, s.d_model, m.d_expert, m.num_experts);
  const double k = gate->experts_per_token(), layers = static_cast<double>(moe_layers);
  add(parts, {"experts", moe_layers * (m.num_experts * expert.parameters + expert.common),
              static_cast<int64_t>(layers * (k * static_cast<double>(expert.active) + static_cast<double>(expert.common))), layers * k * expert.flops});
  if (m.output_bias) add(parts, {"experts", moe_layers * s.d_model, moe_layers * s.d_model, 0});
  if (m.num_shared_experts > 0) {
    const auto shared = size_of(m.experts, s.d_model, m.d_shared > 0 ? m.d_shared : m.num_shared_experts * m.d_expert);
    const int64_t always = moe_layers * (shared.parameters + shared.common);
    add(parts, {"shared experts", always, always, layers * shared.flops});
  }
  if (m.num_shared_experts == 0 && m.join.kind == "sum") return;
  const auto join = join_registry().make(m.join, place);
  int64_t joining = -join->common_parameters();
  for (const auto& p : join->parameters()) joining += p.numel();
  if (joining > 0) add(parts, matrix("join", moe_layers * joining));
  if (join->common_parameters() > 0 && first) add(parts, {"join, common to all layers", join->common_parameters(), join->common_parameters(), 0});
}

// What the encoder has of its own: the embedding is shared, and a head it has none.
void add_encoder(std::vector<Part>& parts, const ModelSpec& s) {
  for (const Part& part : count_parameters(encoder_spec(s)).parts)
    if (part.name != "embedding" && part.name != "head") add(parts, part);
}

}  // namespace

ParameterCount count_parameters(const ModelSpec& spec) {
  const ModelSpec s = spec.resolved();
  const auto groups = layer_groups(s);
  const auto copied = [&](const LayerGroup& group) { return group.plan.moe && group.plan.moe->site == "layer"; };
  int64_t copied_branches = 0;
  for (const auto& group : groups) copied_branches += copied(group) ? 2 * group.count : 0;

  ParameterCount out;
  const int64_t vocab = s.vocab_size * s.d_model;
  const int64_t norms = ((s.num_branches() - copied_branches) * (s.sandwich_norm ? 2 : 1) + 1) * norm_size(s);
  out.parts.push_back({"embedding", vocab, vocab, 0});
  if (s.positions == "learned") out.parts.push_back({"positions", s.max_positions * s.d_model, s.max_positions * s.d_model, 0});
  if (has_distances(s)) out.parts.push_back({"relative positions", s.relative_buckets * s.num_heads, s.relative_buckets * s.num_heads, 0});
  for (const auto& group : groups)
    if (group.plan.mixer && !copied(group)) add(out.parts, mixer_part(s, group));
  out.parts.push_back({"norms", norms, norms, 0});
  for (const auto& group : groups)
    if (group.plan.d_ff) add_dense(out.parts, s, group.plan, group.count);
  bool first = true;
  for (const auto& group : groups) {
    if (!group.plan.moe || copied(group)) continue;
    add_moe(out.parts, s, *group.plan.moe, group.count, first);
    first = false;
  }
  for (const auto& group : groups)
    if (copied(group)) add_layer_copies(out.parts, s, group);
  if (!s.mixtures.empty())
    for (Part& part : count_mixtures(s)) out.parts.push_back(std::move(part));
  if (s.encoder) add_encoder(out.parts, s);
  Part head = matrix("head", vocab);
  if (s.tie_embeddings) head.total = head.active = 0;  // counted as the embedding
  if (s.head_bias) head.total += s.vocab_size, head.active += s.vocab_size;
  out.parts.push_back(head);
  for (const auto& part : out.parts) {
    out.total += part.total;
    out.active += part.active;
    out.flops_per_token += part.flops_per_token;
  }
  return out;
}

}  // namespace switchyard
