// Nested experts: ONE feed-forward network, of which expert i uses the first f_i of its f inner neurons, f_0 < f_1 < ... = f.
// A dense network becomes elastic: the choice of an expert is the choice of a width, and what an expert computes is a part of what
// the next one computes:
//
//   E_i(x) = sum_{j <= i} phi(x W_in[B_j]^T) W_out[:, B_j]^T      B_j = neurons f_{j-1} .. f_j - 1
//
// Rows come sorted by expert, so that those of all experts >= j are one suffix: each block of neurons is one product with it, and
// no weight is read twice. Source: Flextron, arXiv:2406.10260 section 3 (neurons in order of importance).
#pragma once

#include "switchyard/expert_bank.h"

#include <string>
#include <vector>

namespace switchyard {

class NestedBank final : public ExpertBank {
 public:
  struct Options {
    std::string of = "swiglu";
    std::vector<double> shares;
    template <class V> void fields(V&& v) {
      v("of", of, "the one network: relu, gelu, gelu_tanh, geglu, geglu_tanh or swiglu");
      v("shares", shares, "share of the inner neurons of each expert, rising to 1; empty = 1/E, 2/E, ... 1");
    }
  };

  NestedBank(const Options& options, const BankShape& shape);

  torch::Tensor forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext& context) override;
  // All parameters belong to all experts: counts are those of the widest one.
  int64_t parameters_per_expert() const override { return 0; }
  double flops_per_row() const override { return flops_of(static_cast<int64_t>(widths_.size()) - 1); }
  double flops_of(int64_t expert) const override;
  bool separable() const override { return false; }
  torch::Tensor flat_weights() const override;

  // f_i, the neurons of each expert.
  [[nodiscard]] const std::vector<int64_t>& widths() const { return widths_; }
  // Mean size of what each neuron passes on for these inputs [n, d]: |phi(z)| times the norm of its column of W_out -> [f].
  [[nodiscard]] torch::Tensor importance(const torch::Tensor& inputs) const;
  // Puts the neurons in the order of falling importance; equal ones keep their order. The widest expert stays the same function.
  void sort_neurons(const torch::Tensor& inputs);

 private:
  [[nodiscard]] torch::Tensor inner(const torch::Tensor& rows, const torch::Tensor& gate, const torch::Tensor& up) const;

  int64_t d_model_, d_expert_;
  std::string phi_;
  bool gated_;
  std::vector<int64_t> widths_;
  torch::Tensor in_, up_, out_;  // [f, d], [f, d] in gated networks, [d, f]
};

}  // namespace switchyard
