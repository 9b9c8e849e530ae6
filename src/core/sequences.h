// The tokens of a call by sequence: what gates need that decide per sequence, or per part of one.
#pragma once

#include "switchyard/routing.h"

namespace switchyard {

// Sequences in order of their ids. Padding (valid = false, or a negative id) has the number `count` of its own, so that
// nothing of it gets into a mean.
struct Sequences {
  torch::Tensor of;  // [T] int64: 0 .. count - 1; count for padding
  int64_t count = 0;
  bool has_padding = false;

  [[nodiscard]] int64_t with_padding() const { return count + (has_padding ? 1 : 0); }
};

// Throws Error{usage} in the name of `who` when the call does not say which token belongs to which sequence.
[[nodiscard]] Sequences sequences_of(const GateInput& input, const char* who);

// The place of each token within its group, in row order: group [T] with values 0 .. groups - 1 -> [T] int64.
[[nodiscard]] torch::Tensor places_in(const torch::Tensor& group, int64_t groups);

// Means of the rows of each group: rows [T, n], group [T] -> [groups, n], in float32 (float64 stays); 0 for an empty group.
[[nodiscard]] torch::Tensor means_of(const torch::Tensor& rows, const torch::Tensor& group, int64_t groups);

}  // namespace switchyard
