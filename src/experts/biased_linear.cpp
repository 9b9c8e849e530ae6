// E(x) = x' W^T + b, one matrix W [d, d] and one vector b [d] per expert, behind a token attention that all experts share:
//   x' = x + up(relu(down(x))),   down [d / reduction, d],  up [d, d / reduction] zero at first
// so that a token keeps a say of its own when its whole sequence runs through one merged expert. reduction = 0 leaves it out.
// Averaged matrices and vectors are averaged outputs, as for the neighbour `linear`, which has no b.
// Source: MEO, arXiv:2310.09832 section 3 (reduction 64).
#include "core/expert_of_rows.h"
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/expert_bank.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class BiasedLinearBank final : public ExpertBank {
 public:
  struct Options {
    int64_t reduction = 64;
    template <class V> void fields(V&& v) { v("reduction", reduction, "d_model over the inner width of the token attention; 0 = no token attention"); }
  };

  BiasedLinearBank(const Options& o, const BankShape& s) : d_model_(s.d_model) {
    if (s.d_model < 1) fail(ErrorKind::config, "d_model = {} in layers.{}.ffn, expected at least 1", s.d_model, s.layer);
    if (o.reduction < 0 || o.reduction > s.d_model)
      fail(ErrorKind::config, "experts biased_linear: reduction = {} in layers.{}.ffn, expected 0 to d_model = {}", o.reduction, s.layer, s.d_model);
    if (s.local() != s.num_experts && s.local() > 0)
      fail(ErrorKind::unsupported, "experts biased_linear: the token attention in layers.{}.ffn belongs to all experts, which must be on one rank", s.layer);
    const auto draw = [&](torch::Tensor w, double std, const RandomStream& stream) {
      if (std != 0) stream.fill_normal(w.data_ptr<float>(), w.numel());
      return w.mul_(std);
    };
    const auto stream = RandomStream(s.seed).at("biased_linear", static_cast<uint64_t>(s.layer));
    auto weight = torch::zeros({s.local(), d_model_, d_model_});
    for (int64_t e = 0; e < s.local(); ++e) draw(weight[e], s.init_out_std, stream.at("expert", static_cast<uint64_t>(s.first_expert + e)));
    weight_ = register_parameter("weight", weight);
    bias_ = register_parameter("bias", torch::zeros({s.local(), d_model_}));
    if (o.reduction == 0) return;
    const auto shared = register_module("shared", std::make_shared<torch::nn::Module>("shared"));
    down_ = shared->register_parameter("down", draw(torch::zeros({d_model_ / o.reduction, d_model_}), s.init_std, stream.at("down")));
    up_ = shared->register_parameter("up", torch::zeros({d_model_, d_model_ / o.reduction}));
  }

  torch::Tensor forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext&) override { return run(rows, offsets, weight_, bias_); }

  torch::Tensor forward_merged(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& weights, const RowContext&) override {
    const auto mix = weights.to(weight_.device(), weight_.scalar_type());
    return run(rows, offsets, at::matmul(mix, weight_.flatten(1)).view({mix.size(0), d_model_, d_model_}), at::matmul(mix, bias_));
  }

  int64_t parameters_per_expert() const override { return d_model_ * d_model_ + d_model_; }
  double flops_per_row() const override { return 2.0 * static_cast<double>(d_model_ * d_model_ + (down_.defined() ? 2 * down_.numel() : 0)); }
  torch::Tensor flat_weights() const override { return weight_.detach().flatten(1); }

 private:
  torch::Tensor run(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& weight, const torch::Tensor& bias) const {
    const auto x = down_.defined() ? rows + ops::linear(at::relu(ops::linear(rows, down_)), up_) : rows;
    return ops::grouped_linear(x, offsets, weight) + of_experts(bias, offsets);
  }

  int64_t d_model_;
  torch::Tensor weight_, bias_;  // [E, d, d], [E, d]
  torch::Tensor down_, up_;      // [r, d], [d, r]
};

}  // namespace

ExpertEntry expert_biased_linear() {
  return plug_in<BiasedLinearBank, ExpertEntry>("biased_linear", "arXiv:2310.09832", "one matrix and one offset behind a shared token attention");
}

}  // namespace switchyard
