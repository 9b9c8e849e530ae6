// Channels of convolutions as experts. One small network, 3 x 3 convolutions with batch normalisation, ReLU and average pooling, in two forms:
//
//   gated:    y_c = g_c(x) BN(Conv_c * x), g^l = relu(W^l e(x)), e a shallow embedding of the picture; a zero skips the channel, and the next
//             layer's kernels that read it (DeepMoE, arXiv:1806.01531)
//   blocked:  N blocks of w channels per layer, of which each sample keeps the one that its router chose (AdvMoE, arXiv:2308.10110); the
//             normalisation stands behind the choice and is shared by the blocks
//
// Departs from both papers: three layers instead of ResNets.
#pragma once

#include "switchyard/random.h"
#include "vision/batch_norm.h"

#include <torch/nn/module.h>

#include <vector>

namespace switchyard::vision {

// Convolutions, then the means over the quarters of the picture and a linear map to classes.
struct ConvSizes {
  std::vector<int64_t> channels = {8, 16, 16};  // out of each layer
  int64_t classes = 4, size = 16;               // of the picture, one channel in
};

class GatedCnn final : public torch::nn::Module {
 public:
  struct Options {
    ConvSizes sizes = {};
    int64_t embedding = 12;
    bool gated = true;  // false: the base network
  };
  struct Output {
    torch::Tensor logits, embedding_logits;  // [B, classes]
    std::vector<torch::Tensor> gates;        // [B, C_l] per layer
  };

  GatedCnn(const Options& options, uint64_t seed);
  [[nodiscard]] Output forward(const torch::Tensor& x) const;
  // The same logits as outside training, sample by sample, with the channels whose gate is zero left out of the arithmetic.
  [[nodiscard]] torch::Tensor forward_skipping(const torch::Tensor& x) const;
  // The base network: all gates 1.
  [[nodiscard]] torch::Tensor forward_ungated(const torch::Tensor& x) const;

  // Of the convolutions, mean per sample: 2 * 9 * places * nnz(g^l) * nnz(g^{l - 1}).
  [[nodiscard]] double flops(const std::vector<torch::Tensor>& gates) const;
  [[nodiscard]] double flops_of_all() const;
  [[nodiscard]] std::vector<torch::Tensor> gate_parameters() const;  // of embedding and heads
  [[nodiscard]] std::vector<torch::Tensor> base_parameters() const;

 private:
  [[nodiscard]] torch::Tensor embedding(const torch::Tensor& x) const;
  [[nodiscard]] torch::Tensor through(const torch::Tensor& x, const std::vector<torch::Tensor>& gates) const;

  Options options_;
  std::vector<torch::Tensor> kernels_, heads_;  // [C_l, C_{l - 1}, 3, 3], [C_l, n]
  std::vector<std::shared_ptr<BatchNorm>> norms_;
  torch::Tensor classifier_, embed_kernel_, embed_map_, embed_classifier_;
};

class BlockedCnn final : public torch::nn::Module {
 public:
  struct Options {
    ConvSizes sizes = {};  // channels of one block, so of what a sample passes
    int64_t experts = 2;
  };

  BlockedCnn(const Options& options, uint64_t seed);
  // [B, N] scores of the router.
  [[nodiscard]] torch::Tensor route(const torch::Tensor& x) const;
  // Keeps the best block of each sample; the gradient passes to the scores as if they were the mask.
  [[nodiscard]] torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& scores) const;
  [[nodiscard]] torch::Tensor forward(const torch::Tensor& x) const { return forward(x, route(x)); }
  // The network of block i alone, a plain CNN.
  [[nodiscard]] torch::Tensor pathway(int64_t expert, const torch::Tensor& x) const;

  [[nodiscard]] std::vector<torch::Tensor> router_parameters() const { return {router_kernel_, router_map_}; }
  [[nodiscard]] std::vector<torch::Tensor> backbone_parameters() const;
  [[nodiscard]] int64_t experts() const { return options_.experts; }

 private:
  Options options_;
  std::vector<torch::Tensor> kernels_;  // [N * C_l, C_{l - 1}, 3, 3]: block by block
  std::vector<std::shared_ptr<BatchNorm>> norms_;
  torch::Tensor classifier_, router_kernel_, router_map_;
};

}  // namespace switchyard::vision
