// Stops a training that has gone out of the numbers, and says where it began.
#pragma once

#include "steps/parameters.h"
#include "switchyard/routing_stats.h"

#include <span>

namespace switchyard {

// Throws Error{numeric} when `loss` is not finite: names the first parameter, else the first layer's router logits, that is
// not finite. `step` is the step being made, `last_loss` the loss of the one before.
void check_loss(double loss, int64_t step, double last_loss, std::span<const RoutingStats> stats,
                const std::vector<TrainedParameter>& parameters);

// Throws Error{numeric} when a layer had tokens without any finite score: names the layer and what is to blame.
void check_routing(std::span<const RoutingStats> stats, int64_t step, double last_loss, const std::vector<TrainedParameter>& parameters);

// Throws Error{numeric} when the gradient norm is not finite: names the first parameter whose gradient is to blame.
void check_gradient(double norm, int64_t step, double loss, const std::vector<TrainedParameter>& parameters);

// Throws Error{numeric} when a weight is not finite: what is saved can be loaded again.
void check_weights(int64_t step, const std::vector<TrainedParameter>& parameters);

}  // namespace switchyard
