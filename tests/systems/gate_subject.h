// The recipe of a gate as a small model, its first Mixture-of-Experts layer, and calls that tell a gate all it may ask for.
#pragma once

#include "steps/recipe.h"
#include "switchyard/language_model.h"
#include "systems/systems_table.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <c10/core/GradMode.h>

#include <stdexcept>

namespace switchyard::systems {

// Every number of the options that `change(key, value)` wants otherwise, at any depth.
template <class Change> void change_integers(ConfigNode& node, const Change& change) {
  if (!node.is_table()) return;
  for (auto& [key, child] : *node.table())
    if (auto* number = std::get_if<int64_t>(&child.value)) *number = change(key, *number);
    else change_integers(child, change);
}

// What stands around a gate is another test's matter: a mixture at a site becomes a layer of plain experts behind the same gate
// and losses, and so do copies of whole layers; a list of layers becomes layers that are alike.
inline void give_plain_experts(ModelSpec& spec) {
  if (spec.moe) spec.moe->site = "ffn";
  spec.pattern.clear();
  if (spec.moe || spec.mixtures.empty()) return;
  const MixtureSpec& mixture = spec.mixtures.front();
  spec.moe.emplace();
  spec.moe->num_experts = mixture.num_experts;
  spec.moe->gate = mixture.gate;
  spec.moe->losses = mixture.losses;
  spec.mixtures.clear();
}

// The recipe with sizes that tests can afford. Structure, gate, capacity, losses stay; lengths that count tokens shrink with
// the sequences of the calls below, periods with the number of updates.
inline ModelSpec small_spec_of(const System& system) {
  std::vector<std::string> sizes = {"tokenizer.kind=byte", "model.d_model=40", "model.d_ff=12", "model.init_std=0.3", "model.num_heads=4"};
  ModelSpec spec = resolved_model(load_recipe(root() / system.recipe, sizes));
  give_plain_experts(spec);
  if (spec.moe) {
    spec.moe->d_expert = 12;
    change_integers(spec.moe->gate.options, [](const std::string& key, int64_t value) {
      return key == "length" || (key == "tokens" && value > 0) ? 4 : key == "period" && value > 0 ? 3 : value;
    });
  }
  return spec;
}

inline torch::Tensor normal_rows(int64_t rows, int64_t columns, const RandomStream& stream) {
  auto x = torch::empty({rows, columns});
  stream.fill_normal(x.data_ptr<float>(), x.numel());
  return x;
}

// Sequences of equal length, with all that a gate can ask for.
inline GateInput call_of(int64_t sequences, int64_t length, int64_t d_model, uint64_t seed = 5) {
  const int64_t tokens = sequences * length;
  const RandomStream stream(seed, "call");
  GateInput in;
  in.hidden = normal_rows(tokens, d_model, stream.at("hidden"));
  in.sequence_ids = torch::arange(sequences, torch::kInt64).repeat_interleave(length);
  in.positions = torch::arange(length, torch::kInt64).repeat({sequences});
  in.tags = in.sequence_ids % 2;
  in.token_ids = torch::empty({tokens}, torch::kInt64);
  for (int64_t t = 0; t < tokens; ++t) in.token_ids[t] = static_cast<int64_t>(stream.at("ids").below(static_cast<uint64_t>(t), 257));
  in.previous_ids = at::where(in.positions > 0, in.token_ids.roll(1), torch::full({}, -1, torch::kInt64));
  in.random = RandomStream(seed, "draws");
  return in;
}

// The same call with the named tokens alone, in that order.
inline GateInput take(const GateInput& in, const torch::Tensor& rows) {
  GateInput out = in;
  for (torch::Tensor* x : {&out.hidden, &out.valid, &out.sequence_ids, &out.positions, &out.tags, &out.token_ids, &out.previous_ids})
    if (x->defined()) *x = x->index_select(0, rows);
  return out;
}

inline GateInput in_training(GateInput in, int64_t step = 0) {
  in.training = true;
  in.step = step;
  return in;
}

inline torch::Tensor weights_of(const Routing& routing) {
  if (const auto* choice = std::get_if<TokenChoice>(&routing.choice)) return choice->weights;
  if (const auto* columns = std::get_if<ExpertChoice>(&routing.choice)) return columns->weights;
  if (const auto* slots = std::get_if<SoftSlots>(&routing.choice)) return slots->combine;
  return std::get<ExpertMix>(routing.choice).weights;
}

// What is equal when two plans are: expert ids, token ids, or the weights of shapes that choose nobody.
inline torch::Tensor plan_of(const MoETrace& trace) {
  const auto& choice = trace.routing.choice;
  if (const auto* tokens = std::get_if<TokenChoice>(&choice))
    return trace.plan.kept.defined() ? at::where(trace.plan.kept, tokens->expert_ids, torch::full({}, -1, torch::kInt64)) : tokens->expert_ids;
  if (const auto* columns = std::get_if<ExpertChoice>(&choice)) return columns->token_ids;
  return weights_of(trace.routing);
}

// A model with a gate that has learned something: fresh gates are even, some start at zero, and equal scores say little.
class Subject {
 public:
  explicit Subject(const ModelSpec& spec, uint64_t seed = 1) : model(std::make_shared<LanguageModel>(spec, seed)) {
    const c10::NoGradGuard no_grad;
    if (model->moe_layers().empty()) throw std::runtime_error("the recipe has no Mixture-of-Experts layer");
    for (auto& [index, moe] : model->moe_layers()) {
      for (auto& item : moe->gate().named_parameters()) {
        auto& p = item.value();
        p += normal_rows(1, p.numel(), RandomStream(seed, "stir").at(item.key())).view(p.sizes()) * (p.dim() > 1 ? 0.3 : 0.05);
      }
      for (int64_t step = 0; step < 4; ++step) {
        MoETrace trace;
        auto in = in_training(call_of(4, 8, spec.d_model, 50 + static_cast<uint64_t>(step)), step);
        in.tags.zero_();  // the one tag that every recipe has
        (void)moe->forward(in.hidden, in, &trace);
        moe->gate().update(trace.stats);
      }
    }
  }

  [[nodiscard]] MoELayer& layer() const { return *model->moe_layers().front().second; }
  torch::Tensor forward(const GateInput& in, MoETrace* trace = nullptr) const { return layer().forward(in.hidden, in, trace); }
  // Auxiliary losses of one training call of the layer; rewards as a language model would give them.
  [[nodiscard]] torch::Tensor aux_loss(MoETrace& trace) const {
    trace.stats.token_loss = torch::linspace(0.5, 4.5, trace.stats.num_tokens);
    return model->aux_loss({trace.stats}).total;
  }

  std::shared_ptr<LanguageModel> model;
};

inline std::string id_of(const ::testing::TestParamInfo<System>& info) { return test_name(info.param.id); }

}  // namespace switchyard::systems
