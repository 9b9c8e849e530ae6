// One rank: rows are gathered from the tokens and their outputs added back; nothing travels.
#include "core/ops.h"
#include "switchyard/dispatcher.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

struct LocalTicket final : Ticket {
  explicit LocalTicket(DispatchPlan p) : plan(std::move(p)) {}
  DispatchPlan plan;
};

class Local final : public Dispatcher {
 public:
  using Options = NoOptions;
  Local(const Options&, const DispatchShape& s) : num_experts_(s.num_experts) {
    if (s.communicator && s.communicator->size() > 1)
      fail(ErrorKind::config, "dispatcher 'local' works on one rank, the communicator has {}; use 'expert_parallel'", s.communicator->size());
  }

  Dispatched dispatch(const torch::Tensor& tokens, const DispatchPlan& plan) override {
    return {ops::gather_rows(tokens, plan), plan.offsets, std::make_shared<LocalTicket>(plan)};
  }
  torch::Tensor combine(const torch::Tensor& rows, const Ticket& ticket, const torch::Tensor& weights) override {
    return ops::combine_rows(rows, weights, static_cast<const LocalTicket&>(ticket).plan);
  }
  std::pair<int64_t, int64_t> local_experts() const override { return {0, num_experts_}; }

 private:
  int64_t num_experts_;
};

}  // namespace

DispatcherEntry dispatcher_local() { return plug_in<Local, DispatcherEntry>("local", "", "one rank: gather, compute, add back"); }

}  // namespace switchyard
