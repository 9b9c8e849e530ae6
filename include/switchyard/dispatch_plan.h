// From choices to rows: capacity, overflow, and the sorted index lists that everything behind the gate works on.
#pragma once

#include "switchyard/fields.h"
#include "switchyard/routing.h"

#include <memory>
#include <string>

namespace switchyard {

// Which (token, choice) pairs reach their expert, sorted by expert. Index lists only: weights stay in the Routing, where
// autograd sees them. Nothing here has the size tokens x experts.
struct DispatchPlan {
  torch::Tensor row_token = {};         // [N] int64: token of each row; stable order (expert, token, choice)
  torch::Tensor row_weight_index = {};  // [N] int64: flat index of the row's weight in Routing's weights
  torch::Tensor offsets = {};           // [E+1] int64: rows of expert e are offsets[e] .. offsets[e+1]-1
  torch::Tensor row_of_pair = {};       // [T*k] int64: the inverse; -1 = no row (dropped, or no expert). Expert choice: [E*C]
  torch::Tensor kept = {};              // [T, k] bool: false where a wanted pair was dropped. Undefined for expert choice
  torch::Tensor wanted = {};            // [T, k] int64: the choices before overflow = "next_choice" revised them; else undefined
  int64_t num_tokens = 0;
  int64_t top_k = 0;                    // choices per token; 0 for expert choice, where a token may have any number of rows

  [[nodiscard]] int64_t num_rows() const { return row_token.size(0); }
};

// How many rows an expert may take, who comes first, and what becomes of the rest.
struct CapacityOptions {
  double factor = 0;                     // 0 = dropless
  double eval_factor = 0;                // outside training; 0 = dropless
  int64_t min_capacity = 0;
  int64_t rows = 0, eval_rows = 0;       // a fixed number of rows per expert instead of the factor; 0 = by the factor
  bool counts_k = true;                  // capacity = factor * k * T / E; false: factor * T / E
  std::string rounding = "ceil";         // ceil | floor | round | floor_even | ceil_per_choice: k * ceil(factor * T / E)
  BlockSpec priority = "arrival";        // arrival | score | random: who gets a place first
  std::string overflow = "drop";         // drop: contributes nothing | pass_through: contributes weight * token
                                         // next_choice: tries the next best experts of the token (top-1 gates)
  int64_t tries = 2;                     // experts that a token tries with next_choice
  bool renorm_after_drop = false;        // weights of the kept choices of a token sum to what all of them did
  int64_t devices = 0;                   // above 0: a capacity per group of E / devices experts instead of per expert; the pairs
                                         // of lowest probability are dropped, whatever `priority` says
  double protected_share = 0;            // with devices: share of the sequences of which nothing is dropped
  int64_t group_size = 0;                // tokens per routing group in row order, padding not counted; 0 = all of the call
  bool per_sequence = false;             // every sequence of the call is a routing group of its own

  [[nodiscard]] bool limits(bool training) const { return training ? factor > 0 || rows > 0 : eval_factor > 0 || eval_rows > 0; }

  template <class V> void fields(V&& v) {
    v("factor", factor, "rows per expert over the balanced share; 0 = dropless");
    v("eval_factor", eval_factor, "the same outside training; 0 = dropless");
    v("min_capacity", min_capacity, "an expert takes at least so many rows");
    v("rows", rows, "an expert takes so many rows, whatever the factor says; 0 = by the factor");
    v("eval_rows", eval_rows, "the same outside training");
    v("counts_k", counts_k, "capacity grows with top_k: factor * k * T / E");
    v("rounding", rounding, "ceil, floor, round, floor_even (floor, and one more when that is odd), or ceil_per_choice: k * ceil(factor * T / E)");
    v("priority", priority, "who gets a place first: arrival, score or random");
    v("overflow", overflow, "drop: the pair contributes nothing; pass_through: weight * token; next_choice: the token's next best expert is tried");
    v("tries", tries, "experts that a token tries with next_choice");
    v("renorm_after_drop", renorm_after_drop, "weights of the kept choices of a token sum to what those of all its choices did");
    v("devices", devices, "capacity per group of num_experts / devices experts, lowest probabilities dropped; 0 = per expert");
    v("protected_share", protected_share, "with devices: share of the sequences that drop nothing");
    v("group_size", group_size, "tokens that compete for places, in row order; 0 = all of them");
    v("per_sequence", per_sequence, "the tokens of a sequence compete for places among themselves");
  }
};

// Rows an expert may take when T tokens of k choices route over E experts (catalogue convention: factor * k * T / E).
[[nodiscard]] int64_t capacity_of(const CapacityOptions& options, int64_t tokens, int64_t top_k, int64_t num_experts, bool training);

// Order in which tokens are served; a plug-in of src/capacity/.
class Priority {
 public:
  virtual ~Priority() = default;
  // A permutation of 0..T-1, [T] int64: who comes first. Equal ranks are served in token order.
  [[nodiscard]] virtual torch::Tensor order(const TokenChoice& choice, const Scores& scores, const GateInput& input) const = 0;
  // True when the place of a token depends on tokens behind it: such a priority leaks the future in a causal model.
  [[nodiscard]] virtual bool looks_ahead() const = 0;
};

struct Planned {
  Routing routing;  // as given, or revised (renorm_after_drop, overflow = "next_choice")
  DispatchPlan plan;
};

// Turns a decision into rows. `priority` may be null when the options say dropless. Soft slots and expert mixes have no
// plan: throws Error{internal}.
[[nodiscard]] Planned plan_dispatch(Routing routing, const GateInput& input, int64_t num_experts, const CapacityOptions& options,
                                    const Priority* priority);

}  // namespace switchyard
