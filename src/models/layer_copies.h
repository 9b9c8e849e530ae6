// A layer of the stack whose experts are whole transformer blocks, attention and norms included: each sequence passes through the
// copies that its route names, in task-level mixtures through one (moe.site = "layer").
//
//   y = sum_e w_e Block_e(x)       w from the gate, which reads x and what the call says about its tokens
//
// A copy's feed-forward network is of the kind `moe.experts` and the width `moe.d_expert`. The text that a cache holds keeps the
// copy that its beginning chose: what another copy wrote there are no keys of this one.
// Source: Ye et al., arXiv:2205.12701 section 3. Departs: the router sees its own layer; there it may run over all layers at once.
#pragma once

#include "models/copies_bank.h"

namespace switchyard {

class LayerCopies final : public StackLayer {
 public:
  // `spec` is resolved and has moe.site = "layer".
  LayerCopies(const ModelSpec& spec, int64_t layer, std::optional<uint64_t> seed);

  [[nodiscard]] torch::Tensor forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, BlockTrace& trace) override;
  [[nodiscard]] int64_t layer() const override { return moe_->options().layer; }
  [[nodiscard]] MoELayer* moe() override { return moe_.get(); }

 private:
  [[nodiscard]] Routing kept_route(const GateInput& input, int64_t rows, LayerCache& cache);

  std::shared_ptr<CopiesBank> bank_;
  std::shared_ptr<MoELayer> moe_;
};

// The layer that the specification asks for at this place.
[[nodiscard]] std::shared_ptr<StackLayer> make_stack_layer(const ModelSpec& spec, int64_t layer, std::optional<uint64_t> seed);

// One copy as a model of its own would have it: the same specification without experts.
[[nodiscard]] ModelSpec spec_of_copy(const ModelSpec& spec);

}  // namespace switchyard
