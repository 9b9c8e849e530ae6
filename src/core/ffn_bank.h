// Feed-forward experts in two forms, stacked over the experts of a layer:
//
//   plain:  E(x) = phi(x W_in^T) W_out^T               W_in [E, f, d]    (arXiv:2006.16668, arXiv:2101.03961)
//   gated:  E(x) = (phi(x W_g^T) * x W_u^T) W_out^T    W_in [E, 2f, d]: gate rows, then up rows    (arXiv:2002.05202)
//
// W_out [E, d, f]. With `bias` each product has an offset of its own, b_in [E, f or 2f] and b_out [E, d], as adapters have
// (arXiv:2306.03745). The kinds in src/experts name phi and the form. Dropout of the inner activation, in training
// only: experts see few tokens each when a sparse model is fine-tuned (arXiv:2101.03961 section 2.4, rate 0.4).
#pragma once

#include "switchyard/expert_bank.h"

#include <string>

namespace switchyard {

struct FfnOptions {
  double dropout = 0;
  bool bias = false;
  template <class V> void fields(V&& v) {
    v("dropout", dropout, "of the inner activation, training only");
    v("bias", bias, "an offset behind both matrices, zero at first");
  }
};

class FfnBank final : public ExpertBank {
 public:
  FfnBank(const BankShape& shape, std::string phi, bool gated, const FfnOptions& options = {});

  torch::Tensor forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext& context) override;
  torch::Tensor forward_merged(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& weights,
                               const RowContext& context) override;
  int64_t parameters_per_expert() const override {
    return (gated_ ? 3 : 2) * d_model_ * d_expert_ + (weights_.b_in.defined() ? (gated_ ? 2 : 1) * d_expert_ + d_model_ : 0);
  }
  double flops_per_row() const override { return 2.0 * static_cast<double>((gated_ ? 3 : 2) * d_model_ * d_expert_); }
  torch::Tensor flat_weights() const override { return weights_.out.detach().flatten(1); }
  std::vector<Site> sites() const override;

 private:
  struct Weights {
    torch::Tensor in, out, b_in, b_out;  // [E, f or 2f, d], [E, d, f], [E, f or 2f], [E, d]; the last two undefined without biases
  };
  torch::Tensor run(const torch::Tensor& rows, const torch::Tensor& offsets, const Weights& w, const RowContext& context) const;
  [[nodiscard]] torch::Tensor with_sites(const torch::Tensor& rows, const torch::Tensor& z, const SiteHook& hook) const;
  [[nodiscard]] torch::Tensor dropped(const torch::Tensor& inner, const torch::Tensor& offsets, const RowContext& context) const;

  int64_t d_model_, d_expert_, first_expert_;
  double dropout_;
  std::string phi_;
  bool gated_;
  Weights weights_;
};

// The entry of one kind: src/experts/<name>.cpp.
[[nodiscard]] ExpertEntry ffn_entry(std::string name, std::string ref, std::string summary, std::string phi, bool gated);

}  // namespace switchyard
