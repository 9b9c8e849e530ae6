// Causal grouped-query attention with rotary positions (arXiv:2305.13245, arXiv:2104.09864), without biases.
#pragma once

#include "models/call_context.h"
#include "switchyard/model_spec.h"
#include "switchyard/site.h"

#include <torch/nn/module.h>

namespace switchyard {

// Where one layer's keys and values go when the model keeps them: tensors [B, capacity, G, c], filled from `length`.
struct LayerCache {
  torch::Tensor keys, values;
  int64_t length = 0;
  torch::Tensor* mix = nullptr;  // KvCache::mixes of the layer
};

class Attention final : public torch::nn::Module {
 public:
  // `init` draws the weights; one that is null leaves them at zero (a checkpoint follows).
  Attention(const ModelSpec& spec, const RandomStream* init);

  // x [B, S, d] -> [B, S, d]. With a cache the new keys and values are stored behind the old ones and all are seen. `hook`
  // hears of the sites attn.q, attn.k, attn.v, attn.o, in this order; keys and queries before they are turned.
  [[nodiscard]] torch::Tensor forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, const SiteHook& hook = {});

  [[nodiscard]] static std::vector<Site> sites(const ModelSpec& spec);

 private:
  int64_t num_heads_, num_kv_heads_, head_dim_;
  bool causal_;
  torch::Tensor q_proj_, k_proj_, v_proj_;  // [H*c, d], [G*c, d], [G*c, d]
  torch::Tensor o_proj_;                    // [d, H*c]
};

}  // namespace switchyard
