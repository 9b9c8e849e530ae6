// Gates, and the blocks that most of them are made of: pool -> score -> noise -> normalise -> select -> weigh.
#pragma once

#include "switchyard/plug_in.h"
#include "switchyard/routing.h"
#include "switchyard/routing_stats.h"

#include <torch/nn/module.h>

namespace switchyard {

// Where a gate stands. All that a block may need to size its parameters.
struct GateShape {
  int64_t d_model = 0, num_experts = 0, layer = 0;
  uint64_t seed = 0;  // initial weights are a pure function of (seed, layer)
};

class Gate : public torch::nn::Module {
 public:
  [[nodiscard]] virtual Routing route(const GateInput& input) = 0;
  // Once per optimiser step, with the statistics summed over micro-batches and ranks.
  virtual void update(const RoutingStats&) {}
  // Experts that work per token: for counting active parameters and FLOPs.
  [[nodiscard]] virtual double experts_per_token() const = 0;
  // True when the routing of a token depends on later tokens (selection along the token axis).
  [[nodiscard]] virtual bool looks_ahead() const { return false; }
  // Parameters of the router, for the parameter table.
  [[nodiscard]] int64_t num_parameters() const;
};

namespace gates {

// Units that are scored: tokens, or means over sequences, segments, tasks. `units` [U, d]; `unit_of` [T] int64, undefined
// when every token is its own unit.
struct Pooled {
  torch::Tensor units, unit_of;
};
class Pooler : public torch::nn::Module {
 public:
  [[nodiscard]] virtual Pooled pool(const GateInput& input) = 0;
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
  [[nodiscard]] virtual torch::Tensor on_logits(const torch::Tensor& logits, const GateInput&) { return logits; }
};

class Normaliser : public torch::nn::Module {
 public:
  // logits [U, E] -> probs [U, E].
  [[nodiscard]] virtual torch::Tensor normalise(const torch::Tensor& logits) = 0;
};

class Selector : public torch::nn::Module {
 public:
  // probs [U, E] -> expert ids [U, k] int64, best first, -1 = none. Higher wins; equal scores: the lower id.
  [[nodiscard]] virtual torch::Tensor select(const torch::Tensor& probs) = 0;
  [[nodiscard]] virtual double experts_per_token() const = 0;
};

class Weigher : public torch::nn::Module {
 public:
  // logits and probs [U, E], ids [U, k] -> weights [U, k]; 0 where the id is -1.
  [[nodiscard]] virtual torch::Tensor weigh(const torch::Tensor& logits, const torch::Tensor& probs, const torch::Tensor& ids) = 0;
  // True when a single choice always gets the same weight, so that the task loss cannot train the router (k = 1 trap).
  [[nodiscard]] virtual bool constant_for_one() const { return false; }
};

using PoolEntry = PlugIn<Pooler, GateShape>;
using ScoreEntry = PlugIn<Scorer, GateShape>;
using NoiseEntry = PlugIn<Noiser, GateShape>;
using NormaliseEntry = PlugIn<Normaliser, GateShape>;
using SelectEntry = PlugIn<Selector, GateShape>;
using WeighEntry = PlugIn<Weigher, GateShape>;

Registry<PoolEntry>& poolers();
Registry<ScoreEntry>& scorers();
Registry<NoiseEntry>& noisers();
Registry<NormaliseEntry>& normalisers();
Registry<SelectEntry>& selectors();
Registry<WeighEntry>& weighers();

}  // namespace gates

using GateEntry = PlugIn<Gate, GateShape>;
Registry<GateEntry>& gate_registry();

}  // namespace switchyard
