// Gates, and the blocks that most of them are made of:
// pool -> score -> noise -> normalise -> balance -> select -> weigh -> keep.
#pragma once

#include "switchyard/plug_in.h"
#include "switchyard/routing.h"
#include "switchyard/routing_stats.h"

#include <torch/nn/module.h>

#include <map>
#include <string>

namespace switchyard {

// Where a gate stands. All that a block may need to size its parameters.
struct GateShape {
  int64_t d_model = 0, num_experts = 0, layer = 0;
  uint64_t seed = 0;  // initial weights are a pure function of (seed, layer)
  int64_t d_out = 0;  // width of what an expert gives back; 0 = d_model
};

// May the output of a token depend on other tokens of the call?
enum class Causality {
  strict,           // no
  batch_dependent,  // through the capacity of experts alone: who is served first, and who is dropped
  non_causal,       // selection or mixing along the token axis: in a causal model it leaks the future
};
[[nodiscard]] const char* name_of(Causality causality);

class Gate : public torch::nn::Module {
 public:
  [[nodiscard]] virtual Routing route(const GateInput& input) = 0;
  // Once per optimiser step, with the statistics summed over micro-batches and ranks.
  virtual void update(const RoutingStats&) {}
  // Experts that work per token: for counting active parameters and FLOPs.
  [[nodiscard]] virtual double experts_per_token() const = 0;
  // True when the routing of a token depends on later tokens (selection along the token axis).
  [[nodiscard]] virtual bool looks_ahead() const { return false; }
  // Name of a term without which the gate can go astray, so that a recipe has to train it (loss gate_term); "" = none.
  [[nodiscard]] virtual std::string needs_term() const { return ""; }
  // Parameters of the router, for the parameter table.
  [[nodiscard]] int64_t num_parameters() const;
};

namespace gates {

// Units that are scored: tokens, or means over sequences, segments, tasks. Undefined tensors: every token is its own unit.
struct Pooled {
  torch::Tensor units;         // [U, d]
  torch::Tensor unit_of = {};  // [T] int64
  torch::Tensor valid = {};    // [U] bool; false = a unit of padding alone. Undefined: all are valid
};
class Pooler : public torch::nn::Module {
 public:
  [[nodiscard]] virtual Pooled pool(const GateInput& input) = 0;
  // True when a unit holds tokens that come after some of its tokens.
  [[nodiscard]] virtual bool looks_ahead() const { return false; }
};

// Units on their way through the chain: each block reads what those before it have filled in.
struct Scored {
  const GateInput& input;
  torch::Tensor units;           // [U, d] float32
  torch::Tensor unit_of = {};    // [T] int64; undefined when every token is its own unit
  torch::Tensor valid = {};      // [U] bool; undefined = all
  torch::Tensor logits = {};     // [U, E] float32, before noise
  torch::Tensor noisy = {};      // [U, E] after noise; the same tensor when there is none
  torch::Tensor noise_std = {};  // [U, E] when the noise has a deviation of its own per unit
  torch::Tensor probs = {};      // [U, E]
  torch::Tensor ranked = {};     // [U, E] what the selector compares: probs, or probs with a bias
  std::map<std::string, torch::Tensor> terms = {};  // losses of the gate itself (Routing::terms)
};

// Who goes where; -1 = none. Higher wins; equal scores: the lower expert, the earlier unit.
struct Selection {
  torch::Tensor ids;       // [U, k] expert ids, best first; by column: [E, C] unit ids
  bool by_column = false;

  // values [U, E] of the chosen pairs, in the shape of ids; 0 where nobody was chosen.
  [[nodiscard]] torch::Tensor gather(const torch::Tensor& values) const;
  // The same over the sum of the unit's chosen values, which counts as at least 1e-20.
  [[nodiscard]] torch::Tensor shares(const torch::Tensor& values) const;
  // For every pair the sum over all pairs of its unit: `chosen` and the result have the shape of ids.
  [[nodiscard]] torch::Tensor sum_of_unit(const torch::Tensor& chosen, int64_t num_units) const;
};

class Scorer : public torch::nn::Module {
 public:
  // units [U, d] float32 -> logits [U, E] float32.
  [[nodiscard]] virtual torch::Tensor score(const torch::Tensor& units, const GateInput& input) = 0;
};

// Off outside training unless the block says otherwise.
class Noiser : public torch::nn::Module {
 public:
  [[nodiscard]] virtual torch::Tensor on_input(const torch::Tensor& units, const GateInput&) { return units; }
  // Sets noisy, and noise_std when the block learns one. As it comes in, noisy is logits.
  virtual void on_logits(Scored&) {}
};

class Normaliser : public torch::nn::Module {
 public:
  // noisy [U, E] -> probs [U, E].
  [[nodiscard]] virtual torch::Tensor normalise(const Scored& s) = 0;
};

// Balance by state instead of by a loss: what an optimiser step teaches about the load.
class Balancer : public torch::nn::Module {
 public:
  // What the selector compares; weights and losses see the probabilities as they are.
  [[nodiscard]] virtual torch::Tensor rank(const Scored& s) { return s.probs; }
  virtual void update(const RoutingStats&) {}
  // Multiplies the auxiliary losses of this layer.
  [[nodiscard]] virtual double loss_scale() const { return 1; }
};

class Selector : public torch::nn::Module {
 public:
  [[nodiscard]] virtual Selection select(Scored& s) = 0;
  [[nodiscard]] virtual double experts_per_token() const = 0;
  [[nodiscard]] virtual bool looks_ahead() const { return false; }
};

class Weigher : public torch::nn::Module {
 public:
  // Weights in the shape of the ids; 0 where the id is -1.
  [[nodiscard]] virtual torch::Tensor weigh(const Scored& s, const Selection& chosen) = 0;
  // True when a single choice always gets the same weight, so that the task loss cannot train the router (k = 1 trap).
  [[nodiscard]] virtual bool constant_for_one() const { return false; }
};

// Which of the chosen pairs are sent after all: random second experts, masked outputs.
class Keeper : public torch::nn::Module {
 public:
  virtual void keep(const Scored&, Selection&, torch::Tensor& /*weights*/) {}
};

using PoolEntry = PlugIn<Pooler, GateShape>;
using ScoreEntry = PlugIn<Scorer, GateShape>;
using NoiseEntry = PlugIn<Noiser, GateShape>;
using NormaliseEntry = PlugIn<Normaliser, GateShape>;
using SelectEntry = PlugIn<Selector, GateShape>;
using WeighEntry = PlugIn<Weigher, GateShape>;
using BalanceEntry = PlugIn<Balancer, GateShape>;
using KeepEntry = PlugIn<Keeper, GateShape>;

Registry<PoolEntry>& poolers();
Registry<ScoreEntry>& scorers();
Registry<NoiseEntry>& noisers();
Registry<NormaliseEntry>& normalisers();
Registry<SelectEntry>& selectors();
Registry<WeighEntry>& weighers();
Registry<BalanceEntry>& balancers();
Registry<KeepEntry>& keepers();

}  // namespace gates

using GateEntry = PlugIn<Gate, GateShape>;
Registry<GateEntry>& gate_registry();

}  // namespace switchyard
