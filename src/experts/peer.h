// Parameter-efficient expert retrieval: n^2 experts of a single neuron each, of which every head looks up k by product keys.
//
//   q = BN(x W_q^T) [heads, d_key]        score (i, j) = q_1 . c_i + q_2 . c'_j        I_h = the k best of n^2
//   y = sum_h sum_{(i, j) in I_h} g_h,(i, j) gelu(u_ij . x) v_ij            g_h = softmax over the k kept scores
//
// U, V [n^2, d] are shared by all heads; each head has keys of its own. It stands in the place of one feed-forward network: `ffn` of a
// model or of a layer of its pattern; d_ff has no meaning. Batch normalisation of the queries goes over the rows of a call in training
// (padding too) and keeps running means for later; without it few experts are used. Gradients of U and V are sparse (core/table_ops.h).
// Source: PEER, arXiv:2407.04153; product keys and query normalisation, arXiv:1907.05242.
#pragma once

#include "switchyard/expert_bank.h"

#include <functional>
#include <string>

namespace switchyard {

class PeerBank final : public ExpertBank {
 public:
  struct Options {
    int64_t num_keys = 32, heads = 8, k = 16, d_key = 128;
    bool query_norm = true;
    std::string weigh = "softmax", activation = "gelu";
    double momentum = 0.1;
    template <class V> void fields(V&& v) {
      v("num_keys", num_keys, "n: keys per half; there are n^2 experts");
      v("heads", heads, "retrievals per token");
      v("k", k, "experts per head");
      v("d_key", d_key, "width of a key, both halves together");
      v("query_norm", query_norm, "batch normalisation of the queries");
      v("weigh", weigh, "kept scores to weights: softmax, sigmoid or relu");
      v("activation", activation, "of the neuron, one that feed-forward experts have");
      v("momentum", momentum, "of the running means of the normalisation");
    }
  };

  // What a call retrieved, for diagnostics: experts [rows, heads * k] int64 and their weights.
  using Observer = std::function<void(const torch::Tensor& experts, const torch::Tensor& weights, const RowContext& context)>;

  PeerBank(const Options& options, const BankShape& shape);

  torch::Tensor forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext& context) override;
  int64_t parameters_per_expert() const override;
  int64_t active_parameters_per_expert() const override;
  double flops_per_row() const override;
  torch::Tensor flat_weights() const override { return v_.detach().flatten().unsqueeze(0); }

  void observe(Observer observer) { observer_ = std::move(observer); }
  [[nodiscard]] int64_t num_neurons() const { return options_.num_keys * options_.num_keys; }

 private:
  [[nodiscard]] torch::Tensor queries(const torch::Tensor& rows, bool training);

  Options options_;
  int64_t d_;
  torch::Tensor query_, keys_, u_, v_;         // [h d_key, d], [2 h, n, d_key / 2], [n^2, d], [n^2, d]
  torch::Tensor norm_weight_, norm_bias_, mean_, variance_;  // [h d_key] each; the last two are buffers
  Observer observer_;
};

}  // namespace switchyard
