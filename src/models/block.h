// One layer of the stack, pre-norm:
//   h = x + r dropout(mixer(norm(x)))      y = h + r dropout(ffn(norm(h)))
// where ffn is the Mixture-of-Experts layer, or the dense layer: a bank of one expert; r = residual_scale (SumSpec and
// ModelSpec::residual say what it is added to). A layer of a pattern may have only one of the two, or a dense network and
// experts, in this order. With sandwich_norm what a branch adds is normed as well. moe.input says what experts read instead of
// h: x itself, so that they need not wait for the mixer ("layer"; Arctic), or what the layer before held in front of or behind
// its mixer, so that they can travel while that layer works ("previous_layer", "previous_mixer"; shortcut-connected experts,
// arXiv:2404.05019).
// Mixtures may sit at the linears and activations of mixer and dense network (site.h).
#pragma once

#include "models/norm.h"
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
  torch::Tensor experts(const torch::Tensor& x, const CallContext& call, LayerCache* cache, BlockTrace& trace);
  torch::Tensor dense(const torch::Tensor& x, const CallContext& call, const SiteHook& hook);
  torch::Tensor keep_experts(const torch::Tensor& x, const GateInput& input, LayerCache& cache, BlockTrace& trace);
  [[nodiscard]] torch::Tensor read_by_experts(const torch::Tensor& x, const torch::Tensor& stream, const CallContext& call) const;
  torch::Tensor added(const torch::Tensor& stream, const torch::Tensor& branch, const SumSpec& sum, const Norm& behind, const CallContext& call,
                      const char* where) const;

  int64_t layer_;
  double dropout_;
  SumSpec mixer_sum_, network_sum_;
  bool adds_to_norm_;
  std::string moe_input_ = "stream";
  Norm attn_norm_, dense_norm_, ffn_norm_;            // before mixer, dense network and experts
  Norm attn_post_norm_, dense_post_norm_, ffn_post_norm_;  // of what they add
  std::shared_ptr<Mixer> mixer_;       // null: there is none
  std::shared_ptr<MoELayer> moe_;
  std::shared_ptr<ExpertBank> dense_;
  std::shared_ptr<SiteMixtures> mixtures_;
};

}  // namespace switchyard
