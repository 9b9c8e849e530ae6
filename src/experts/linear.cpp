// E(x) = x W^T, one matrix W [d, d] per expert, without activation; `d_expert` has no meaning here. As in the layers of
// arXiv:2206.04674: averaging the parameters of linear experts is averaging their outputs, so that a mix of them loses nothing.
// The experts of the routing bench (steps/routing_bench.h).
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/expert_bank.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class LinearBank final : public ExpertBank {
 public:
  using Options = NoOptions;

  LinearBank(const Options&, const BankShape& s) : d_model_(s.d_model) {
    if (s.d_model < 1) fail(ErrorKind::config, "d_model = {} in layers.{}.ffn, expected at least 1", s.d_model, s.layer);
    auto w = torch::zeros({s.local(), s.d_model, s.d_model});
    for (int64_t e = 0; e < s.local() && s.init_out_std != 0; ++e)
      RandomStream(s.seed).at("linear", static_cast<uint64_t>(s.layer)).at("expert", static_cast<uint64_t>(s.first_expert + e))
          .fill_normal(w.data_ptr<float>() + e * s.d_model * s.d_model, s.d_model * s.d_model);
    weight_ = register_parameter("weight", w.mul_(s.init_out_std));
  }

  torch::Tensor forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext&) override {
    return ops::grouped_linear(rows, offsets, weight_);
  }

  torch::Tensor forward_merged(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& weights, const RowContext&) override {
    const auto mixed = at::matmul(weights.to(weight_.scalar_type()), weight_.flatten(1)).view({weights.size(0), d_model_, d_model_});
    return ops::grouped_linear(rows, offsets, mixed);
  }

  int64_t parameters_per_expert() const override { return d_model_ * d_model_; }
  double flops_per_row() const override { return 2.0 * static_cast<double>(parameters_per_expert()); }
  torch::Tensor flat_weights() const override { return weight_.detach().flatten(1); }

 private:
  int64_t d_model_;
  torch::Tensor weight_;  // [E, d, d]
};

}  // namespace

ExpertEntry expert_linear() { return plug_in<LinearBank, ExpertEntry>("linear", "arXiv:2206.04674", "one matrix, no activation"); }

}  // namespace switchyard
