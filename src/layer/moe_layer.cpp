// With plan_dispatch, the only place that visits the four shapes of a Routing.
#include "core/beside.h"
#include "core/drop_padding.h"
#include "core/group_rows.h"
#include "core/ops.h"
#include "core/registries.h"
#include "switchyard/error.h"
#include "switchyard/moe.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

RowContext context_of(const GateInput& input, torch::Tensor row_token, const char* bank = "routed") {
  return {.row_token = std::move(row_token), .training = input.training, .random = input.random.at(bank), .first_token = input.first_token};
}

// Rows [T, n] of the tokens in hidden [..., d] -> [..., n].
torch::Tensor like_tokens(const torch::Tensor& rows, const torch::Tensor& hidden) {
  auto shape = hidden.sizes().vec();
  shape.back() = rows.size(1);
  return rows.view(shape);
}

torch::Tensor whole(int64_t rows) { return torch::tensor({int64_t{0}, rows}, torch::kInt64); }

void check_sizes(const MoEOptions& o) {
  const auto positive = [&](const char* key, int64_t value) {
    if (value < 1) fail(ErrorKind::config, "{} = {} in layers.{}.ffn, expected at least 1", key, value, o.layer);
  };
  positive("d_model", o.d_model);
  positive("d_expert", o.d_expert);
  positive("num_experts", o.num_experts);
  if (o.num_shared_experts < 0) fail(ErrorKind::config, "num_shared_experts = {} in layers.{}.ffn, expected 0 or more", o.num_shared_experts, o.layer);
  const auto& c = o.capacity;
  if (c.overflow != "drop" && c.overflow != "pass_through" && c.overflow != "next_choice")
    fail(ErrorKind::config, "capacity: overflow = '{}' in layers.{}.ffn, expected drop, pass_through or next_choice", c.overflow, o.layer);
  if (c.overflow == "next_choice" && (c.tries < 1 || c.tries > o.num_experts))
    fail(ErrorKind::config, "capacity: tries = {} in layers.{}.ffn, expected 1 to num_experts = {}", c.tries, o.layer, o.num_experts);
  if (!(c.factor >= 0) || !(c.eval_factor >= 0) || c.min_capacity < 0 || c.rows < 0 || c.eval_rows < 0 || c.group_size < 0)
    fail(ErrorKind::config, "capacity in layers.{}.ffn: factor = {}, eval_factor = {}, min_capacity = {}, rows = {}, eval_rows = {}, group_size = {}; expected 0 or more",
         o.layer, c.factor, c.eval_factor, c.min_capacity, c.rows, c.eval_rows, c.group_size);
  if (c.devices < 0 || (c.devices > 0 && o.num_experts % c.devices != 0))
    fail(ErrorKind::config, "capacity: devices = {} in layers.{}.ffn, expected 0 or a divisor of num_experts = {}", c.devices, o.layer, o.num_experts);
  if (!(c.protected_share >= 0 && c.protected_share <= 1))
    fail(ErrorKind::config, "capacity: protected_share = {} in layers.{}.ffn, expected 0 to 1", c.protected_share, o.layer);
  (void)capacity_of(c, 1, 1, 1, true);  // names a wrong rounding
}

}  // namespace

MoELayer::MoELayer(MoEOptions options, std::shared_ptr<ExpertBank> experts) : options_(std::move(options)), losses_(options_.losses) {
  check_sizes(options_);
  const auto& o = options_;
  gate_ = register_module("gate", gate_registry().make(o.gate, GateShape{o.d_model, o.num_experts, o.layer, o.seed, o.d_out}));
  priority_ = priority_registry().make(o.capacity.priority);
  if (o.causal) refuse_lookahead();
  dispatcher_ = dispatcher_registry().make(o.dispatcher, DispatchShape{o.num_experts, o.communicator});
  const auto [first, count] = dispatcher_->local_experts();
  BankShape shape{.d_model = o.d_model, .d_expert = o.d_expert, .num_experts = o.num_experts, .first_expert = first,
                  .num_local_experts = count, .layer = o.layer, .init_std = o.init_std, .init_out_std = o.init_out_std, .seed = o.seed,
                  .d_out = o.d_out, .heads = o.heads};
  experts_ = register_module("experts", experts ? std::move(experts) : expert_registry().make(o.experts, shape));
  if (o.num_shared_experts > 0) {
    shape.d_expert = o.d_shared > 0 ? o.d_shared : o.num_shared_experts * o.d_expert;
    shape.num_experts = 1;
    shape.first_expert = 0;
    shape.num_local_experts = 1;
    shape.seed = RandomStream(o.seed).at("shared").bits(0);
    shared_ = register_module("shared_experts", expert_registry().make(o.experts, shape));
  }
  if (o.output_bias) bias_ = register_parameter("bias", torch::zeros({o.d_out > 0 ? o.d_out : o.d_model}));
  if (!shared_ && o.join.kind == "sum") return;
  join_ = register_module("join", join_registry().make(o.join, GateShape{o.d_model, o.num_experts, o.layer, o.seed}));
  if (!shared_ && join_->needs_shared())
    fail(ErrorKind::config, "join = '{}' in layers.{}.ffn joins shared experts with the routed sum, but num_shared_experts = 0; expected at least 1",
         o.join.kind, o.layer);
}

Causality MoELayer::causality() const {
  const bool drops = options_.capacity.limits(true) || options_.capacity.limits(false);
  if (gate_->looks_ahead() || (drops && (priority_->looks_ahead() || options_.capacity.devices > 0))) return Causality::non_causal;
  return drops ? Causality::batch_dependent : Causality::strict;
}

void MoELayer::refuse_lookahead() const {
  if (causality() != Causality::non_causal) return;
  if (gate_->looks_ahead())
    fail(ErrorKind::config, "gate '{}' in layers.{}.ffn chooses along the token axis: in a causal model it leaks the future", options_.gate.kind, options_.layer);
  if (options_.capacity.devices > 0)
    fail(ErrorKind::config, "capacity per device in layers.{}.ffn drops the least probable of all tokens: in a causal model it leaks the future", options_.layer);
  fail(ErrorKind::config, "capacity priority '{}' in layers.{}.ffn depends on later tokens: in a causal model it leaks the future; use 'arrival'",
       options_.capacity.priority.kind, options_.layer);
}

torch::Tensor MoELayer::forward(const torch::Tensor& hidden, GateInput input, MoETrace* trace) {
  if (hidden.size(-1) != options_.d_model)
    fail(ErrorKind::usage, "MoE layer {}: input has width {}, d_model is {}", options_.layer, hidden.size(-1), options_.d_model);
  const auto tokens = hidden.reshape({-1, options_.d_model});
  input.hidden = on_cpu(tokens);  // where routers live
  if (num_ranks() == 1) input.expert_outputs = [&] { return on_cpu(outputs_of_all(tokens, input)); };
  auto routing = gate_->route(input);
  input.expert_outputs = nullptr;  // it speaks of this call alone
  return like_tokens(run(tokens, input, std::move(routing), trace), hidden);
}

torch::Tensor MoELayer::apply(const torch::Tensor& hidden, const GateInput& input, Routing routing, MoETrace* trace) {
  const auto tokens = hidden.reshape({-1, options_.d_model});
  GateInput in = input;
  in.hidden = on_cpu(tokens);
  return like_tokens(run(tokens, in, std::move(routing), trace), hidden);
}

MoEOutput MoELayer::operator()(const torch::Tensor& hidden, int64_t step) {
  GateInput input;
  input.training = is_training();
  input.step = step;
  if (hidden.dim() == 3) input.sequence_ids = torch::arange(hidden.size(0), torch::kInt64).repeat_interleave(hidden.size(1));  // [batch, seq, d]
  input.random = RandomStream(options_.seed).at("layer", static_cast<uint64_t>(options_.layer)).at("step", static_cast<uint64_t>(step));
  MoETrace trace;
  auto out = forward(hidden, std::move(input), &trace);
  return {out, losses_({&trace.stats, 1}).total};
}

torch::Tensor MoELayer::run(const torch::Tensor& tokens, const GateInput& input, Routing routing, MoETrace* trace) {
  MoETrace local;
  MoETrace& t = trace ? *trace : local;
  torch::Tensor y;
  if (const auto* slots = std::get_if<SoftSlots>(&routing.choice)) {
    y = run_slots(tokens, *slots, input);
    t.routing = std::move(routing);
  } else if (const auto* mix = std::get_if<ExpertMix>(&routing.choice)) {
    y = run_mix(tokens, *mix, input);
    t.routing = std::move(routing);
  } else {
    if (auto* choice = std::get_if<TokenChoice>(&routing.choice)) drop_padding(*choice, input.valid);
    auto planned = plan_dispatch(std::move(routing), input, options_.num_experts, options_.capacity, priority_.get());
    y = run_rows(tokens, planned.routing, planned.plan, input);
    t.routing = std::move(planned.routing);
    t.plan = std::move(planned.plan);
  }
  if (trace) t.input = input;
  if (trace && t.wants_stats) t.stats = routing_stats(t.routing, t.plan.kept, input, options_.layer, options_.num_experts, t.plan.wanted);
  if (options_.routed_scale != 1.0) y = y * options_.routed_scale;
  if (join_) {
    torch::Tensor always;
    if (shared_) always = shared_->forward(tokens, whole(tokens.size(0)), context_of(input, torch::arange(tokens.size(0), torch::kInt64), "shared"));
    GateInput joined = input;  // joins live where the experts do
    joined.hidden = tokens;
    joined.valid = beside(tokens, input.valid);
    y = join_->join_chosen(y, always, joined, t.routing, t.stats.terms);
    for (auto& [name, term] : t.stats.terms) term = on_cpu(term);
  }
  return bias_.defined() ? y + bias_ : y;
}

torch::Tensor MoELayer::run_rows(const torch::Tensor& tokens, const Routing& routing, const DispatchPlan& plan, const GateInput& input) {
  const auto* choice = std::get_if<TokenChoice>(&routing.choice);
  const auto weights = (choice ? choice->weights : std::get<ExpertChoice>(routing.choice).weights).to(tokens.device(), tokens.scalar_type());
  torch::Tensor y;
  if (num_ranks() == 1) y = experts_->forward_tokens(tokens, plan, weights, context_of(input, plan.row_token));
  if (!y.defined()) y = dispatched(tokens, plan, weights, input);
  if (choice && options_.capacity.overflow == "pass_through") {
    const auto dropped = ((choice->expert_ids >= 0) & ~plan.kept).to(weights.device(), weights.scalar_type());
    y = y + tokens * (weights * dropped).sum(-1, /*keepdim=*/true);
  }
  return y;
}

torch::Tensor MoELayer::dispatched(const torch::Tensor& tokens, const DispatchPlan& plan, const torch::Tensor& weights, const GateInput& input) {
  const auto sent = dispatcher_->dispatch(tokens, plan);
  const auto out = experts_->forward(sent.rows, sent.offsets, context_of(input, num_ranks() > 1 ? torch::Tensor() : plan.row_token));
  return dispatcher_->combine(out, *sent.ticket, weights);
}

torch::Tensor MoELayer::outputs_of_all(const torch::Tensor& tokens, const GateInput& input) {
  const int64_t count = tokens.size(0), experts = options_.num_experts;
  const auto offsets = torch::arange(experts + 1, torch::kInt64) * count;
  const auto context = context_of(input, torch::arange(count, torch::kInt64).repeat({experts}));
  const auto out = experts_->forward(tokens.repeat({experts, 1}), offsets, context);
  return out.view({experts, count, out.size(1)}).transpose(0, 1);
}

int64_t MoELayer::num_ranks() const { return options_.communicator ? options_.communicator->size() : 1; }

void MoELayer::need_one_rank(const char* what) const {
  if (num_ranks() > 1)
    fail(ErrorKind::unsupported, "gate '{}' in layers.{}.ffn makes {}, which need all experts on one rank; the communicator has {}", options_.gate.kind,
         options_.layer, what, num_ranks());
}

torch::Tensor MoELayer::run_slots(const torch::Tensor& tokens, const SoftSlots& slots, const GateInput& input) {
  need_one_rank("soft slots");
  const auto experts = options_.num_experts, num_slots = slots.dispatch.size(1), width = tokens.size(1);
  if (num_slots % experts != 0)
    fail(ErrorKind::config, "soft slots in layers.{}.ffn: {} slots do not divide over {} experts", options_.layer, num_slots, experts);
  const GroupRows rows(slots.group_of.defined() ? slots.group_of : torch::zeros({tokens.size(0)}, torch::kInt64), slots.groups);
  const auto per_expert = num_slots / experts;
  // Means of each group [G, S, d]; the bank wants the slots of an expert together.
  auto means = at::bmm(beside(tokens, rows.pack(slots.dispatch, 0)).transpose(1, 2), rows.pack(tokens, 0));
  if (slots.extra.defined()) means = means + slots.extra.to(means.device(), means.scalar_type());
  const auto sorted = means.view({slots.groups, experts, per_expert, width}).transpose(0, 1).reshape({-1, width});
  const auto offsets = torch::arange(experts + 1, torch::kInt64) * (slots.groups * per_expert);
  const auto out = experts_->forward(sorted, offsets, context_of(input, torch::arange(sorted.size(0), torch::kInt64)));
  const auto by_group = out.view({experts, slots.groups, per_expert, out.size(1)}).transpose(0, 1).reshape({slots.groups, num_slots, out.size(1)});
  return rows.unpack(at::bmm(beside(tokens, rows.pack(slots.combine, 0)), by_group));
}

torch::Tensor MoELayer::run_mix(const torch::Tensor& tokens, const ExpertMix& mix, const GateInput& input) {
  need_one_rank("expert mixes");
  // Tokens sorted by group, as if each group were an expert that they chose with weight 1.
  const Routing by_group{.choice = TokenChoice{mix.group_of.unsqueeze(1), torch::ones({tokens.size(0), 1}, tokens.options())}};
  GateInput plain;
  plain.hidden = tokens;
  const auto plan = plan_dispatch(by_group, plain, mix.weights.size(0), {}, nullptr).plan;
  const auto out = experts_->forward_merged(ops::gather_rows(tokens, plan), plan.offsets, mix.weights, context_of(input, plan.row_token));
  return ops::combine_rows(out, std::get<TokenChoice>(by_group.choice).weights, plan);
}

}  // namespace switchyard
