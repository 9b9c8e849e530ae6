// One layer of the stack: a transformer block, or the choice among copies of one.
#pragma once

#include "layer/site_mixture.h"
#include "switchyard/mixer.h"
#include "switchyard/moe.h"

namespace switchyard {

// What a layer did. `moe` is filled where experts are chosen.
struct BlockTrace {
  MoETrace moe;
  torch::Tensor ffn_input, ffn_output;  // [B, S, d]: after the norm; before dropout and the residual sum. Of copies: x and y
  torch::Tensor mixed;                  // [B, S, d]: the residual stream behind the mixer
  MixerTrace mixer;                     // of a mixer with experts
  std::vector<MixtureStats> mixtures;   // at the sites, in the order in which they were reached

  // What losses send gradient through.
  [[nodiscard]] std::vector<torch::Tensor*> differentiable();
};

class StackLayer : public torch::nn::Module {
 public:
  // x [B, S, d] -> [B, S, d].
  [[nodiscard]] virtual torch::Tensor forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, BlockTrace& trace) = 0;
  [[nodiscard]] virtual int64_t layer() const = 0;
  [[nodiscard]] virtual MoELayer* moe() = 0;  // null where no expert is chosen
  [[nodiscard]] virtual SiteMixtures* mixtures() { return nullptr; }  // null without any
};

}  // namespace switchyard
