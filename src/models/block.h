// One layer of the stack, pre-norm:
//   h = x + dropout(attention(norm(x)))      y = h + dropout(ffn(norm(h)))
// where ffn is the Mixture-of-Experts layer, or the dense layer: a bank of one expert. A layer of a pattern may have only one
// of the two. Mixtures may sit at the linears and activations of both (site.h).
#pragma once

#include "models/stack_layer.h"

namespace switchyard {

class Block final : public StackLayer {
 public:
  // `spec` is resolved. Without `seed` the large weights stay at zero (a checkpoint follows).
  Block(const ModelSpec& spec, int64_t layer, std::optional<uint64_t> seed);

  [[nodiscard]] torch::Tensor forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, BlockTrace& trace) override;
  [[nodiscard]] int64_t layer() const override { return layer_; }
  [[nodiscard]] MoELayer* moe() override { return moe_.get(); }
  [[nodiscard]] SiteMixtures* mixtures() override { return mixtures_.get(); }

 private:
  torch::Tensor feed_forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, BlockTrace& trace, const SiteHook& hook);
  torch::Tensor keep_experts(const torch::Tensor& x, const GateInput& input, LayerCache& cache, BlockTrace& trace);
  torch::Tensor dropped(const torch::Tensor& branch, const CallContext& call, const char* where) const;

  int64_t layer_;
  double norm_eps_, dropout_;
  torch::Tensor attn_norm_, ffn_norm_;  // [d]
  std::shared_ptr<Attention> attn_;     // null: there is none
  std::shared_ptr<MoELayer> moe_;       // at most one of the two
  std::shared_ptr<ExpertBank> dense_;
  std::shared_ptr<SiteMixtures> mixtures_;
};

}  // namespace switchyard
