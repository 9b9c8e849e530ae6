// No token left behind: a token whose expert is full tries its next best ones.
#pragma once

#include "switchyard/dispatch_plan.h"

namespace switchyard {

// For rounds i = 2 .. options.tries: every valid token that is not placed yet asks for its i-th best expert (by probability),
// served in the order of `priority` as long as that expert has room. Revises ids, weights (the probability of the expert
// that is used, with gradient) and kept, all [T, 1]. Source: the Mesh TensorFlow code of arXiv:2101.03961, appendix B.
// Throws Error{config} for gates that choose more than one expert or have no probabilities.
void try_next_choices(TokenChoice& choice, torch::Tensor& kept, const Scores& scores, const GateInput& input, int64_t num_experts,
                      const CapacityOptions& options, const Priority& priority);

}  // namespace switchyard
