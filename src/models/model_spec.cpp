#include "switchyard/model_spec.h"

#include "base/config_tree.h"
#include "core/registries.h"
#include "models/encoder_stack.h"
#include "models/gate_rehearsal.h"
#include "models/layer_pattern.h"
#include "models/mixer_of.h"
#include "models/mixtures.h"
#include "models/placement.h"
#include "models/position_tables.h"
#include "models/rotary.h"
#include "switchyard/dispatcher.h"
#include "switchyard/error.h"
#include "switchyard/expert_bank.h"
#include "switchyard/gate.h"
#include "switchyard/join.h"

#include <cmath>

namespace switchyard {
namespace {

// Any size beyond is a slip of the keyboard, and products of sizes stay inside int64.
constexpr int64_t kMaxSize = int64_t{1} << 31;
constexpr double kMaxParameters = 1e15;

void at_least(int64_t value, int64_t least, const char* key) {
  if (value < least) fail(ErrorKind::config, "model.{} = {}, expected at least {}", key, value, least);
  if (value > kMaxSize) fail(ErrorKind::config, "model.{} = {}, expected at most {}", key, value, kMaxSize);
}

void within(double value, double low, double high, const char* key) {
  if (!(value >= low && value < high)) fail(ErrorKind::config, "model.{} = {}, expected {} <= {} < {}", key, value, low, key, high);
}

void positive(double value, const char* key) {
  if (!(value > 0 && std::isfinite(value))) fail(ErrorKind::config, "model.{} = {}, expected a number above 0", key, value);
}

void one_of(const std::string& value, std::initializer_list<const char*> allowed, const char* key) {
  std::string list;
  for (const char* word : allowed) {
    if (value == word) return;
    list += (list.empty() ? "'" : ", '") + std::string(word) + "'";
  }
  fail(ErrorKind::config, "model.{} = '{}', expected one of {}", key, value, list);
}

void resolve_heads(ModelSpec& s) {
  at_least(s.num_heads, 1, "num_heads");
  at_least(s.num_kv_heads, 0, "num_kv_heads");
  at_least(s.head_dim, 0, "head_dim");
  if (s.num_kv_heads == 0) s.num_kv_heads = s.num_heads;
  if (s.num_heads % s.num_kv_heads != 0)
    fail(ErrorKind::config, "model.num_kv_heads = {} does not divide num_heads = {}: query heads share key heads in equal groups", s.num_kv_heads, s.num_heads);
  if (s.head_dim == 0) {
    if (s.d_model % s.num_heads != 0)
      fail(ErrorKind::config, "model.num_heads = {} does not divide d_model = {}; give head_dim, or sizes that divide", s.num_heads, s.d_model);
    s.head_dim = s.d_model / s.num_heads;
  }
  if (s.head_dim % 2 != 0 && s.positions == "rotary")
    fail(ErrorKind::config, "model.head_dim = {} is odd: rotary positions turn pairs of coordinates; expected an even number", s.head_dim);
}

// Only attention adds a bias per distance to its scores.
void check_distances(const ModelSpec& s) {
  at_least(s.padding_id, -1, "padding_id");
  if (!has_distances(s)) return;
  at_least(s.relative_buckets, 4, "relative_buckets");
  if (s.relative_distance <= s.relative_buckets / 2)
    fail(ErrorKind::config, "model.relative_distance = {}, expected more than half of relative_buckets = {}", s.relative_distance, s.relative_buckets);
  for (const auto& group : layer_groups(s))
    if (group.plan.mixer && group.plan.mixer->kind != "attention" && group.plan.mixer->kind != "cross_attention")
      fail(ErrorKind::config, "model.positions = '{}': the mixer '{}' of layer {} knows no distances; expected attention", s.positions, group.plan.mixer->kind, group.first);
}

bool must_be_causal(const ModelSpec& s) { return s.causal && !s.moe->allow_lookahead; }

void check_capacity(const CapacityOptions& c, int64_t num_experts, bool causal) {
  within(c.factor, 0, HUGE_VAL, "moe.capacity.factor");
  within(c.eval_factor, 0, HUGE_VAL, "moe.capacity.eval_factor");
  at_least(c.min_capacity, 0, "moe.capacity.min_capacity");
  at_least(c.rows, 0, "moe.capacity.rows");
  at_least(c.eval_rows, 0, "moe.capacity.eval_rows");
  at_least(c.group_size, 0, "moe.capacity.group_size");
  one_of(c.rounding, {"ceil", "floor", "round", "floor_even", "ceil_per_choice"}, "moe.capacity.rounding");
  one_of(c.overflow, {"drop", "pass_through", "next_choice"}, "moe.capacity.overflow");
  priority_registry().check(c.priority, "model.moe.capacity.priority");
  at_least(c.devices, 0, "moe.capacity.devices");
  if (c.devices > 0 && num_experts % c.devices != 0)
    fail(ErrorKind::config, "model.moe.capacity.devices = {} does not divide num_experts = {}", c.devices, num_experts);
  if (c.devices > 0 && (c.rows > 0 || c.eval_rows > 0))
    fail(ErrorKind::config, "model.moe.capacity: rows = {}, eval_rows = {} with devices = {}; a capacity per device follows the factor, expected 0", c.rows, c.eval_rows, c.devices);
  if (c.overflow == "next_choice" && (c.tries < 1 || c.tries > num_experts))
    fail(ErrorKind::config, "model.moe.capacity.tries = {}, expected 1 to num_experts = {}", c.tries, num_experts);
  within(c.protected_share, 0, 1, "moe.capacity.protected_share");
  if (causal && c.devices > 0 && c.factor > 0)
    fail(ErrorKind::config, "model.moe.capacity.devices = {}: who is dropped would depend on later tokens, and the model is causal; say "
         "model.moe.allow_lookahead = true when evaluation drops nothing (eval_factor = 0)", c.devices);
  if (causal && c.limits(true) && priority_registry().make(c.priority)->looks_ahead())
    fail(ErrorKind::config,
         "{}model.moe.capacity.priority = '{}': the place of a token would depend on later tokens, and the model is causal; "
         "use 'arrival', or model.causal = false, or say model.moe.allow_lookahead = true",
         c.priority.options.location(), c.priority.kind);
}

// One gate is built: only the gate itself knows which sizes it accepts. Its router is small.
void check_gate(const ModelSpec& s, int64_t layer) {
  const MoESpec& m = *s.moe;
  gate_registry().check(m.gate, "model.moe.gate");
  const auto gate = gate_registry().make(m.gate, GateShape{.d_model = s.d_model, .num_experts = m.num_experts, .layer = layer});
  if (gate->experts_per_token() > static_cast<double>(m.num_experts))
    fail(ErrorKind::config, "{}model.moe.gate '{}' asks for {} experts per token, more than num_experts = {}", m.gate.options.location(), m.gate.kind,
         gate->experts_per_token(), m.num_experts);
  if (must_be_causal(s) && gate->looks_ahead())
    fail(ErrorKind::config,
         "{}model.moe.gate = '{}': the routing of a token depends on later tokens, and the model is causal: it leaks the future; use a "
         "token-choice gate such as 'top_k', or model.causal = false, or say model.moe.allow_lookahead = true",
         m.gate.options.location(), m.gate.kind);
  rehearse_gate(s, layer, *gate);
}

void need_moe_layer(const ModelSpec& s) {
  for (int64_t i = 0; i < s.num_layers; ++i)
    if (s.is_moe_layer(i)) return;
  if (!s.pattern.empty()) fail(ErrorKind::config, "model.moe: no layer of model.pattern has experts");
  if (s.moe->where.kind != "every")
    fail(ErrorKind::config, "model.moe: no layer is left for it: num_layers = {}, where = '{}'", s.num_layers, s.moe->where.kind);
  fail(ErrorKind::config, "model.moe: no layer is left for it: num_layers = {}, every = {}, offset = {}, first_k_dense = {}", s.num_layers, s.moe->every,
       s.moe->offset, s.moe->first_k_dense);
}

void resolve_moe_sizes(ModelSpec& s) {
  MoESpec& m = *s.moe;
  at_least(m.num_experts, 1, "moe.num_experts");
  at_least(m.d_expert, 0, "moe.d_expert");
  if (m.d_expert == 0) m.d_expert = s.d_ff;
  at_least(m.num_shared_experts, 0, "moe.num_shared_experts");
  at_least(m.d_shared, 0, "moe.d_shared");
  if (m.d_shared > 0 && m.num_shared_experts == 0) fail(ErrorKind::config, "model.moe.d_shared = {}, but num_shared_experts = 0; expected at least 1", m.d_shared);
  at_least(m.every, 1, "moe.every");
  at_least(m.offset, 0, "moe.offset");
  at_least(m.first_k_dense, 0, "moe.first_k_dense");
}

void check_join(const MoESpec& m) {
  join_registry().check(m.join, "model.moe.join");
  if (m.num_shared_experts == 0 && m.join.kind != "sum" && join_registry().make(m.join, GateShape{.d_model = 1, .num_experts = 1})->needs_shared())
    fail(ErrorKind::config, "{}model.moe.join = '{}' joins shared experts with the routed sum, but num_shared_experts = 0; expected at least 1",
         m.join.options.location(), m.join.kind);
}

// Copies of a layer are chosen per text and run where they are: there are no rows to count, to drop or to send.
void check_layer_copies(const ModelSpec& s) {
  const MoESpec& m = *s.moe;
  if (m.site != "layer") return;
  if (!s.pattern.empty() || !s.mixtures.empty())
    fail(ErrorKind::config, "model.moe.site = 'layer' goes neither with model.pattern nor with model.mixtures: copies are whole layers with attention and network");
  const auto refuse = [](const char* key, const std::string& value, const char* expected) {
    fail(ErrorKind::config, "model.moe.{} = {} with model.moe.site = 'layer': experts are whole layers; expected {}", key, value, expected);
  };
  if (m.num_shared_experts != 0) refuse("num_shared_experts", std::to_string(m.num_shared_experts), "0");
  if (m.routed_scale != 1) refuse("routed_scale", fmt::format("{}", m.routed_scale), "1");
  if (m.capacity.limits(true) || m.capacity.limits(false)) refuse("capacity.factor", fmt::format("{}", m.capacity.factor), "0, in evaluation as well");
  if (m.dispatcher.kind != "local") refuse("dispatcher", "'" + m.dispatcher.kind + "'", "'local'");
}

// `s.moe` as it is in that layer.
void check_moe(const ModelSpec& s, int64_t layer) {
  const MoESpec& m = *s.moe;
  one_of(m.site, {"ffn", "layer"}, "moe.site");
  one_of(m.input, {"stream", "layer", "previous_layer", "previous_mixer"}, "moe.input");
  if (m.input.starts_with("previous") && layer == 0)
    fail(ErrorKind::config, "model.moe.input = '{}', but the first layer has experts and no layer before it; use first_k_dense, offset or a pattern", m.input);
  check_layer_copies(s);
  if (!std::isfinite(m.routed_scale)) fail(ErrorKind::config, "model.moe.routed_scale = {}, expected a finite number", m.routed_scale);
  expert_registry().check(m.experts, "model.moe.experts");
  dispatcher_registry().check(m.dispatcher, "model.moe.dispatcher");
  check_capacity(m.capacity, m.num_experts, must_be_causal(s));
  check_losses(m.losses, "model.moe.losses");
  check_join(m);
  check_gate(s, layer);
}

void check_layer(const ModelSpec& s, const LayerGroup& group) {
  if (group.plan.mixer) {
    mixer_registry().check(*group.plan.mixer, "model.mixer");
    (void)sizes_of_mixer(s, group.first);
  }
  expert_registry().check(group.plan.ffn, "model.ffn");
  if (group.plan.d_ff) at_least(*group.plan.d_ff, 1, "d_ff");
  if (!group.plan.moe) return;
  ModelSpec one = s;
  one.moe = group.plan.moe;
  resolve_moe_sizes(one);
  check_moe(one, group.first);
}

void check_layers(const ModelSpec& s) {
  if (s.moe) need_moe_layer(s);
  for (const auto& group : layer_groups(s)) {
    try {
      check_layer(s, group);
    } catch (const Error& error) {
      if (s.pattern.empty()) throw;
      throw Error(error.kind(), fmt::format("model.pattern[{}]: {}", group.first, error.what()));
    }
  }
}

// A bound on the number of parameters, so that counts and allocations cannot overflow.
void check_total(const ModelSpec& s) {
  const auto d = [](int64_t n) { return static_cast<double>(n); };
  double widths = 0;
  for (const auto& [plan, first, count] : layer_groups(s)) {
    double width = 2 * d(s.num_heads + s.num_kv_heads) * d(s.head_dim) + 3 * d(plan.d_ff.value_or(0));  // a mixer may be larger by a small factor
    if (plan.moe) width += 3 * d(plan.moe->d_expert) * d(plan.moe->num_experts + plan.moe->num_shared_experts);
    if (plan.moe && plan.moe->site == "layer") width *= d(plan.moe->num_experts);
    widths += d(count) * width;
  }
  const double total = d(s.d_model) * (2 * d(s.vocab_size) + widths);
  if (total > kMaxParameters) fail(ErrorKind::config, "model: these sizes make about {:.1e} parameters, expected at most {:.0e}", total, kMaxParameters);
}

}  // namespace

ModelSpec ModelSpec::resolved() const {
  ModelSpec s = *this;
  if (s.vocab_size == 0) fail(ErrorKind::config, "model.vocab_size = 0 takes the size of the tokenizer, but there is no tokenizer; give a number");
  at_least(s.vocab_size, 1, "vocab_size");
  at_least(s.d_model, 1, "d_model");
  at_least(s.num_layers, 1, "num_layers");
  at_least(s.d_ff, 1, "d_ff");
  at_least(s.max_positions, 1, "max_positions");
  resolve_heads(s);
  positive(s.norm_eps, "norm_eps");
  positive(s.rope_theta, "rope_theta");
  one_of(s.norm, {"rms", "layer", "layer_no_bias"}, "norm");
  one_of(s.positions, {"rotary", "learned", "sinusoidal", "relative", "relative_first", "none"}, "positions");
  check_rope(s);
  check_distances(s);
  positive(s.embed_scale, "embed_scale");
  positive(s.residual_scale, "residual_scale");
  positive(s.stream_scale, "stream_scale");
  positive(s.logit_scale, "logit_scale");
  one_of(s.residual, {"stream", "norm"}, "residual");
  within(s.dropout, 0, 1, "dropout");
  within(s.init_std, 0, HUGE_VAL, "init_std");
  expert_registry().check(s.ffn, "model.ffn");
  check_losses(s.losses, "model.losses");
  if (s.moe && !s.losses.empty()) fail(ErrorKind::config, "model.losses: a model with [model.moe] states its losses there, for all routers");
  if (s.moe) resolve_moe_sizes(s);
  if (s.moe) check_placement(*s.moe, s.num_layers);
  if (!s.pattern.empty()) resolve_pattern(s);
  check_total(s);
  check_layers(s);
  (void)rotary_dims(s);
  resolve_encoder(s);
  check_mixtures(s);
  return s;
}

ModelSpec read_model_spec(const ConfigNode& node, const std::string& path) {
  ModelSpec spec;
  read_fields(spec, node, path);
  return spec;
}

nlohmann::ordered_json to_json(const ModelSpec& spec) { return to_json(write_any(spec)); }

}  // namespace switchyard
