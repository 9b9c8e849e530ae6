// The Mixture-of-Experts layer: gate, capacity, dispatcher, experts, shared experts.
//
//   switchyard::MoE moe({.d_model = 512, .d_expert = 2048, .num_experts = 8, .gate = {"top_k", {{"k", 2}}}});
//   auto [hidden, aux_loss] = moe(x);   // x [batch, seq, d_model] or [T, d_model]
#pragma once

#include "switchyard/dispatcher.h"
#include "switchyard/expert_bank.h"
#include "switchyard/gate.h"
#include "switchyard/join.h"
#include "switchyard/loss.h"

#include <torch/nn/pimpl.h>

namespace switchyard {

struct MoEOptions {
  int64_t d_model = 0;
  int64_t d_expert = 0;             // inner width of one expert
  int64_t num_experts = 8;
  BlockSpec gate = {"top_k", {{"k", 2}}};
  BlockSpec experts = "swiglu";
  int64_t num_shared_experts = 0;   // always on; one bank
  int64_t d_shared = 0;             // of that inner width; 0 = num_shared_experts * d_expert
  BlockSpec join = "sum";           // how they meet the routed sum
  double routed_scale = 1.0;        // multiplies the routed sum
  bool output_bias = false;         // a bias is added to the output
  CapacityOptions capacity = {};
  std::vector<LossSpec> losses = {};
  BlockSpec dispatcher = "local";
  int64_t layer = 0;
  bool causal = false;              // refuse gates and priorities that look ahead
  double init_std = 0.02, init_out_std = 0.02;
  uint64_t seed = 0;
  std::shared_ptr<Communicator> communicator = nullptr;
  int64_t d_out = 0, heads = 1;     // of the rows, for mixtures at a site: BankShape
};

struct MoEOutput {
  torch::Tensor hidden;    // shape of the input
  torch::Tensor aux_loss;  // float32 scalar: sum of the weighted losses of this layer
};

// What one call did, for losses over several layers, metrics and `forward` dumps.
struct MoETrace {
  bool wants_stats = true;  // false before a call: leave them out
  GateInput input;    // what the gate saw
  Routing routing;
  DispatchPlan plan;  // empty for soft slots and expert mixes
  RoutingStats stats;
};

class MoELayer : public torch::nn::Module {
 public:
  // Throws Error{config} for sizes and names that make no sense. `experts`: a bank that stands already, instead of the one that the
  // options name.
  explicit MoELayer(MoEOptions options, std::shared_ptr<ExpertBank> experts = nullptr);

  // hidden [..., d_model] -> [..., d_out], the same shape by default; `input.hidden` is ignored, the rest of `input` describes
  // the tokens.
  [[nodiscard]] torch::Tensor forward(const torch::Tensor& hidden, GateInput input, MoETrace* trace = nullptr);
  // With the losses of this layer. Training mode follows is_training(); random streams follow `step`.
  [[nodiscard]] MoEOutput operator()(const torch::Tensor& hidden, int64_t step = 0);
  // With a decision that was made elsewhere (an earlier layer, a trace).
  [[nodiscard]] torch::Tensor apply(const torch::Tensor& hidden, const GateInput& input, Routing routing, MoETrace* trace = nullptr);

  // What gate and capacity together make of the independence of tokens.
  [[nodiscard]] Causality causality() const;
  [[nodiscard]] const MoEOptions& options() const { return options_; }
  [[nodiscard]] Gate& gate() { return *gate_; }
  [[nodiscard]] ExpertBank& experts() { return *experts_; }
  [[nodiscard]] ExpertBank* shared_experts() { return shared_.get(); }
  [[nodiscard]] Join* join() { return join_.get(); }  // null where nothing joins the routed sum

 private:
  torch::Tensor run(const torch::Tensor& tokens, const GateInput& input, Routing routing, MoETrace* trace);
  torch::Tensor run_rows(const torch::Tensor& tokens, const Routing& routing, const DispatchPlan& plan, const GateInput& input);
  torch::Tensor dispatched(const torch::Tensor& tokens, const DispatchPlan& plan, const torch::Tensor& weights, const GateInput& input);
  torch::Tensor run_slots(const torch::Tensor& tokens, const SoftSlots& slots, const GateInput& input);
  torch::Tensor run_mix(const torch::Tensor& tokens, const ExpertMix& mix, const GateInput& input);
  [[nodiscard]] torch::Tensor outputs_of_all(const torch::Tensor& tokens, const GateInput& input);
  [[nodiscard]] int64_t num_ranks() const;
  void need_one_rank(const char* what) const;
  void refuse_lookahead() const;

  MoEOptions options_;
  std::shared_ptr<Gate> gate_;
  std::shared_ptr<Priority> priority_;
  std::shared_ptr<Dispatcher> dispatcher_;
  std::shared_ptr<ExpertBank> experts_, shared_;
  std::shared_ptr<Join> join_;
  torch::Tensor bias_;  // [d_out]; undefined without output_bias
  AuxLosses losses_;
};

// The holder that an ordinary torch::nn module registers. One constructor, so that a braced list of options works.
class MoE : public torch::nn::ModuleHolder<MoELayer> {
 public:
  MoE(MoEOptions options) : ModuleHolder(std::make_shared<MoELayer>(std::move(options))) {}
  MoE(std::nullptr_t) : ModuleHolder(nullptr) {}
  MoEOutput operator()(const torch::Tensor& hidden, int64_t step = 0) const { return (*impl_)(hidden, step); }
};

}  // namespace switchyard
