// What a Routing of any of the four shapes means for one token: how much of it each expert gets.
#pragma once

#include "switchyard/routing.h"

namespace switchyard {

// [T, E] float32, >= 0. Token and expert choice: the weight of each chosen expert; soft slots: the combine weights summed over
// the slots of an expert; expert mix: the weights of the token's group.
[[nodiscard]] torch::Tensor expert_weights(const Routing& routing, int64_t num_tokens, int64_t num_experts);

// [T, E] float32: how often each expert was chosen (0 or more); for soft slots and mixes the same as expert_weights.
[[nodiscard]] torch::Tensor expert_choices(const Routing& routing, int64_t num_tokens, int64_t num_experts);

}  // namespace switchyard
