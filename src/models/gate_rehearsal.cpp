#include "models/gate_rehearsal.h"

#include "core/registries.h"
#include "switchyard/error.h"
#include "switchyard/join.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

namespace switchyard {
namespace {

// Two sequences of two tokens, with all that a gate may ask for.
GateInput made_up_call(int64_t d_model) {
  GateInput in;
  in.hidden = torch::empty({4, d_model});
  RandomStream(0, "rehearsal").fill_normal(in.hidden.data_ptr<float>(), in.hidden.numel());
  in.sequence_ids = torch::tensor({0, 0, 1, 1}, torch::kInt64);
  in.positions = torch::tensor({0, 1, 0, 1}, torch::kInt64);
  in.token_ids = in.tags = torch::zeros({4}, torch::kInt64);
  in.previous_ids = torch::tensor({-1, 0, -1, 0}, torch::kInt64);
  in.training = true;
  return in;
}

std::vector<LossSpec> losses_of(const MoESpec& m) {
  std::vector<LossSpec> out;
  for (const auto& loss : m.losses) out.push_back(read_loss(loss));
  return out;
}

RoutingStats one_call(const MoESpec& m, int64_t layer, const GateInput& in, Gate& gate) {
  Routing routing = gate.route(in);
  DispatchPlan plan;
  if (std::holds_alternative<TokenChoice>(routing.choice) || std::holds_alternative<ExpertChoice>(routing.choice)) {
    const auto priority = priority_registry().make(m.capacity.priority);
    auto planned = plan_dispatch(std::move(routing), in, m.num_experts, m.capacity, priority.get());
    routing = std::move(planned.routing);
    plan = std::move(planned.plan);
  }
  auto stats = routing_stats(routing, plan.kept, in, layer, m.num_experts, plan.wanted);
  stats.token_loss = torch::ones({stats.num_tokens});
  if (m.num_shared_experts > 0 || m.join.kind != "sum") {
    const auto join = join_registry().make(m.join, GateShape{.d_model = in.hidden.size(1), .num_experts = m.num_experts, .layer = layer});
    (void)join->join_chosen(in.hidden, m.num_shared_experts > 0 ? in.hidden : torch::Tensor(), in, routing, stats.terms);
  }
  return stats;
}

bool trains_term(const MoESpec& m, const std::string& term) {
  for (const auto& block : m.losses) {
    const LossSpec loss = read_loss(block);
    const ConfigNode* name = loss.term.options.find("term");
    if (loss.term.kind == "gate_term" && loss.weight > 0 && name && name->string() && *name->string() == term) return true;
  }
  return false;
}

}  // namespace

void rehearse_gate(const ModelSpec& spec, int64_t layer, Gate& gate) {
  const MoESpec& m = *spec.moe;
  const c10::NoGradGuard no_grad;
  if (const auto term = gate.needs_term(); !term.empty() && !trains_term(m, term))
    fail(ErrorKind::config,
         "{}model.moe.gate '{}' with num_experts = {} can go astray without its term '{}'; add {{ kind = \"gate_term\", term = \"{}\", weight = ... }} to "
         "model.moe.losses",
         m.gate.options.location(), m.gate.kind, m.num_experts, term, term);
  const auto refuse = [&](const char* reason) {
    fail(ErrorKind::config, "{}model.moe: gate '{}', capacity and losses do not go together: {}", m.gate.options.location(), m.gate.kind, reason);
  };
  try {
    const auto stats = one_call(m, layer, made_up_call(spec.d_model), gate);
    (void)AuxLosses(losses_of(m))({&stats, 1});
    gate.update(stats);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::config) return;
    refuse(error.what());
  } catch (const c10::Error& error) {  // shapes that do not fit: nobody foresaw this combination
    refuse(error.what_without_backtrace());
  }
}

}  // namespace switchyard
