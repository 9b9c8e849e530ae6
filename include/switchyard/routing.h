// What a gate reads and what it decides.
//
// Letters: T tokens that route together, E experts, k choices per token, d = d_model, S slots, G groups.
#pragma once

#include "switchyard/random.h"

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <variant>

namespace switchyard {

// One block of tokens on its way to a gate. Only `hidden` is always there; a gate that needs more says so when it is
// missing. Undefined tensors mean "not given".
struct GateInput {
  torch::Tensor hidden;        // [T, d]
  torch::Tensor valid;         // [T] bool; false = padding: routed nowhere and counted nowhere
  torch::Tensor token_ids;     // [T] int64
  torch::Tensor sequence_ids;  // [T] int64
  torch::Tensor tags;          // [T] int64: domain, language, task or modality
  torch::Tensor positions;     // [T] int64: place in the sequence
  torch::Tensor previous_ids;  // [T] int64: the token before each, -1 = none. Undefined: the one before it in this call
  bool training = false;
  int64_t step = 0;
  int64_t first_token = 0;            // index of row 0 among all tokens of the step, on all ranks
  RandomStream random{0};             // the stream of this layer and step
  // What every expert makes of every token [T, E, width of its output], computed when it is called, for gates that compare
  // outputs. Empty where there are no experts at hand (a gate on its own, several ranks).
  std::function<torch::Tensor()> expert_outputs = {};
};

// Token choice: each token names up to k experts (top-k, hash, random, balanced assignment; dense when k = E).
struct TokenChoice {
  torch::Tensor expert_ids;  // [T, k] int64; -1 = no expert
  torch::Tensor weights;     // [T, k] float32; 0 where expert_ids is -1
};

// Expert choice: each expert names up to C tokens.
struct ExpertChoice {
  torch::Tensor token_ids;  // [E, C] int64; -1 = empty place
  torch::Tensor weights;    // [E, C] float32
};

// Soft slots: every slot is a weighted mean of the tokens of its group, every token a weighted mean of what the experts make of
// the slots of its group. A mean may hold more than the tokens of the call (patterns from a memory): what those add is `extra`.
// A group has S = E * slots/expert slots of its own, expert by expert.
struct SoftSlots {
  torch::Tensor dispatch;        // [T, S] float32; columns sum to 1 over the tokens of each group, or to what `extra` leaves
  torch::Tensor combine;         // [T, S] float32; rows sum to 1
  torch::Tensor group_of = {};   // [T] int64; -1 = padding, which is in no slot. Undefined: all tokens are one group
  int64_t groups = 1;
  torch::Tensor extra = {};      // [groups, S, d]: added to the slots; undefined = tokens alone
};

// Expert mix: the parameters of the experts are averaged, once per group of tokens.
struct ExpertMix {
  torch::Tensor weights;   // [G, E] float32; rows sum to 1
  torch::Tensor group_of;  // [T] int64; -1 = padding, which no expert sees
};

struct Scores {
  torch::Tensor logits;  // [T, E] float32, before noise
  torch::Tensor probs;   // [T, E] float32, what the normaliser made of them; undefined when the rule has none
  torch::Tensor noisy = {}, noise_std = {};  // [T, E] logits with noise and its deviation; undefined without learned noise
};

// The decision of a gate. The four shapes are closed: they cover the field, and only MoELayer and plan_dispatch visit them.
struct Routing {
  std::variant<TokenChoice, ExpertChoice, SoftSlots, ExpertMix> choice;
  Scores scores = {};
  // What only this gate can form, by name: scalar losses (loss `gate_term`), and what its update() wants to know.
  std::map<std::string, torch::Tensor> terms = {};
  double loss_scale = 1;                            // multiplies the auxiliary losses of this layer
};

}  // namespace switchyard
