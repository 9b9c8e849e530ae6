// Experts of which a part is the same for all of them. A mask M, shared by the experts of a layer, says which entries each has for itself:
//
//   W_e' = lambda_d M * W_e + lambda_s (1 - M) * W_s        lambda_d = 2 sigmoid(phi), lambda_s = 2 - lambda_d, phi = 0 at first
//
// It begins with M = 1: the host, bit for bit. Partition makes entries static that matter least to the choice between experts, by the
// change of the loss to first order, |sum_e dL/dW_e * W_e|: `add_scores` after a backward pass, then `keep`. An entry that becomes static
// takes the mean over the experts. Departs from the paper: entries are ranked per matrix, not over all layers.
// Source: PAD-Net, arXiv:2211.05528 sections 3.2 and 3.3.
#pragma once

#include "core/ffn_bank.h"

namespace switchyard {

class PartialBank final : public FfnBank {
 public:
  std::vector<Packable> packable() const override { return {}; }  // the experts that run are sums of what is stored
  struct Options : FfnOptions {
    std::string of = "relu", lambda = "both";
    template <class V> void fields(V&& v) {
      FfnOptions::fields(v);
      v("of", of, "kind of the network: relu, relu2, gelu, gelu_tanh, glu, bilinear, reglu, geglu, geglu_tanh or swiglu");
      v("lambda", lambda, "which factor is learnt: both, dynamic, static or none (1)");
    }
  };

  PartialBank(const Options& options, const BankShape& shape);

  torch::Tensor forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext& context) override;
  torch::Tensor forward_merged(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& weights, const RowContext& context) override;

  // lambda_d and lambda_s.
  [[nodiscard]] std::pair<torch::Tensor, torch::Tensor> factors() const;
  // Adds |sum_e dL/dW_e * W_e| of the gradients that are there.
  void add_scores();
  // Leaves round(share * n) entries of each matrix dynamic, those with the highest scores among the dynamic ones (equal: the earlier), and
  // forgets the scores. Throws Error{usage} for a share outside 0 .. 1 or above what is dynamic now.
  void keep(double share);
  // The static entries become the mean over the experts: after weights came from elsewhere.
  void set_static_to_mean();
  [[nodiscard]] int64_t dynamic_entries() const;
  [[nodiscard]] int64_t entries() const { return masks_[0].numel() + masks_[1].numel(); }
  // What has to be stored: dynamic entries per expert, static ones once.
  [[nodiscard]] int64_t stored_entries() const { return dynamic_entries() * num_local_experts() + entries() - dynamic_entries(); }

 private:
  [[nodiscard]] Weights effective() const;
  [[nodiscard]] const torch::Tensor& matrix(int i) const { return i == 0 ? weights().in : weights().out; }

  std::string lambda_;
  torch::Tensor masks_[2], static_[2], scores_[2];  // of w_in [f or 2f, d] and w_out [d, f]
  torch::Tensor phi_;                               // [1]
};

}  // namespace switchyard
