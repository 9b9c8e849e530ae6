// Activation checkpointing (Chen et al., arXiv:1604.06174): a block keeps its input only and computes the rest again in
// the backward pass. All randomness of a block is a function of named streams, so the second pass equals the first.
#pragma once

#include "models/stack_layer.h"

namespace switchyard {

// The same result and gradients as block->forward(x, call, nullptr, trace). trace.differentiable() carries gradient; the rest of
// the trace does not.
[[nodiscard]] torch::Tensor checkpointed_forward(const std::shared_ptr<StackLayer>& block, const torch::Tensor& x, const CallContext& call, BlockTrace& trace);

}  // namespace switchyard
