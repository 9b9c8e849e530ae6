// Moves rows to their experts and back. A layer sees only this: ranks, placement and overlap hide behind it.
#pragma once

#include "switchyard/communicator.h"
#include "switchyard/dispatch_plan.h"
#include "switchyard/plug_in.h"

#include <torch/types.h>

namespace switchyard {

// All that the way back needs; private to the dispatcher that made it.
struct Ticket {
  virtual ~Ticket() = default;
};

struct Dispatched {
  torch::Tensor rows;     // [N', d]: rows of the experts that live on this rank, sorted by expert
  torch::Tensor offsets;  // [num_local_experts + 1] int64
  std::shared_ptr<Ticket> ticket;
};

class Dispatcher {
 public:
  virtual ~Dispatcher() = default;
  // tokens [T, d] -> rows at their experts. Differentiable.
  [[nodiscard]] virtual Dispatched dispatch(const torch::Tensor& tokens, const DispatchPlan& plan) = 0;
  // y[t] = sum over the kept pairs of t of weight * row, float32 sum. weights as in the Routing ([T, k] or [E, C]).
  // Differentiable in rows and weights. -> [T, d]
  [[nodiscard]] virtual torch::Tensor combine(const torch::Tensor& rows, const Ticket& ticket, const torch::Tensor& weights) = 0;
  // The experts that live on this rank.
  [[nodiscard]] virtual std::pair<int64_t, int64_t> local_experts() const = 0;  // {first, count}
};

struct DispatchShape {
  int64_t num_experts = 0;
  std::shared_ptr<Communicator> communicator;  // null = one rank
};

using DispatcherEntry = PlugIn<Dispatcher, DispatchShape>;
Registry<DispatcherEntry>& dispatcher_registry();

}  // namespace switchyard
