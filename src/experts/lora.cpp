// E(x) = s B A drop(x): a matrix of low rank, A [E, r, d_in], B [E, d_out, r], s = alpha / r, or alpha / sqrt(r) with
// `rank_stabilised`. A is uniform on +-1/sqrt(d_in) or normal; B is zero at first, so that what an expert is added to stays as it
// is until it learns. Dropout of the input in training, one mask per token for all experts. Source: LoRA, arXiv:2106.09685.
//
// Averaged experts (forward_merged): "product" averages the matrices B_i A_i, which is the same as averaging outputs and is
// computed in the space of the ranks, B_cat (w * A_cat x), without a copy of x per expert; "factors" averages A and B apart,
// which is another function: (sum w B)(sum w A) has rank r and mixed terms B_i A_j.
#include "core/expert_of_rows.h"
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/expert_bank.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {
namespace {

class LoraBank final : public ExpertBank {
 public:
  struct Options {
    int64_t rank = 4;
    double alpha = 0, dropout = 0, a_std = 0, b_std = 0;
    bool rank_stabilised = false;
    std::string merge = "product";
    template <class V> void fields(V&& v) {
      v("rank", rank, "columns of A and B");
      v("alpha", alpha, "an expert counts alpha / rank; 0 = rank, so that it counts 1");
      v("rank_stabilised", rank_stabilised, "it counts alpha / sqrt(rank) instead");
      v("dropout", dropout, "of the input of A, training only");
      v("a_std", a_std, "A begins normal with this deviation; 0 = uniform on +-1/sqrt(d_in)");
      v("b_std", b_std, "B begins normal with this deviation, as if the experts had been trained before; 0 = as zero");
      v("merge", merge, "what is averaged of merged experts: product (of B and A) or factors (each apart)");
    }
  };

  LoraBank(const Options& o, const BankShape& s)
      : d_in_(s.d_model), d_out_(s.d_out > 0 ? s.d_out : s.d_model), rank_(o.rank), dropout_(o.dropout), merge_factors_(o.merge == "factors") {
    if (d_in_ < 1) fail(ErrorKind::config, "d_model = {} in layers.{}, expected at least 1", d_in_, s.layer);
    if (o.rank < 1) fail(ErrorKind::config, "experts lora: rank = {} in layers.{}, expected at least 1", o.rank, s.layer);
    if (!(o.dropout >= 0 && o.dropout < 1)) fail(ErrorKind::config, "experts lora: dropout = {}, expected 0 <= dropout < 1", o.dropout);
    if (!(o.alpha >= 0)) fail(ErrorKind::config, "experts lora: alpha = {}, expected 0 or more", o.alpha);
    if (!(o.a_std >= 0 && o.b_std >= 0)) fail(ErrorKind::config, "experts lora: a_std = {}, b_std = {}, expected 0 or more", o.a_std, o.b_std);
    if (o.merge != "product" && o.merge != "factors") fail(ErrorKind::config, "experts lora: merge = '{}', expected product or factors", o.merge);
    const auto rank = static_cast<double>(o.rank), alpha = o.alpha > 0 ? o.alpha : rank;
    scale_ = alpha / (o.rank_stabilised ? std::sqrt(rank) : rank);
    a_ = register_parameter("a", draw(s, "lora_a", rank_, d_in_, o.a_std, 1 / std::sqrt(static_cast<double>(d_in_))));
    b_ = register_parameter("b", draw(s, "lora_b", d_out_, rank_, o.b_std, 0));
  }

  torch::Tensor forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext& context) override {
    return ops::grouped_linear(ops::grouped_linear(dropped(rows, context), offsets, a_), offsets, b_) * scale_;
  }

  torch::Tensor forward_merged(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& weights, const RowContext& context) override {
    const auto x = dropped(rows, context);
    const auto mix = weights.to(a_.device(), a_.scalar_type());
    if (merge_factors_) {
      const auto merged = [&](const torch::Tensor& w) { return at::matmul(mix, w.flatten(1)).view({mix.size(0), w.size(1), w.size(2)}); };
      return ops::grouped_linear(ops::grouped_linear(x, offsets, merged(a_)), offsets, merged(b_)) * scale_;
    }
    const int64_t count = a_.size(0);
    const auto z = ops::linear(x, a_.flatten(0, 1)).view({x.size(0), count, rank_}) * of_experts(mix, offsets).unsqueeze(2);
    return ops::linear(z.flatten(1), b_.permute({1, 0, 2}).reshape({d_out_, count * rank_})) * scale_;
  }

  int64_t parameters_per_expert() const override { return rank_ * (d_in_ + d_out_); }
  double flops_per_row() const override { return 2.0 * static_cast<double>(parameters_per_expert()); }
  torch::Tensor flat_weights() const override { return b_.detach().flatten(1); }
  bool changes_width() const override { return true; }

 private:
  // Normal with deviation `std`, or uniform on +-bound when that is 0. init_std = 0: weights come later.
  static torch::Tensor draw(const BankShape& s, const char* name, int64_t rows, int64_t cols, double std, double bound) {
    auto w = torch::zeros({s.local(), rows, cols});
    if (s.init_std == 0 || (std == 0 && bound == 0)) return w;
    for (int64_t e = 0; e < s.local(); ++e) {
      const auto stream = RandomStream(s.seed).at(name, static_cast<uint64_t>(s.layer)).at("expert", static_cast<uint64_t>(s.first_expert + e));
      auto one = w[e];
      if (std > 0) stream.fill_normal(one.data_ptr<float>(), one.numel());
      else stream.fill_uniform(one.data_ptr<float>(), one.numel());
    }
    return std > 0 ? w.mul_(std) : w.mul_(2 * bound).sub_(bound);
  }

  // The mask of a row is named by its token, so that it is the same for every expert and every order of rows.
  [[nodiscard]] torch::Tensor dropped(const torch::Tensor& rows, const RowContext& context) const {
    if (!context.training || dropout_ == 0) return rows;
    if (!context.row_token.defined())
      fail(ErrorKind::unsupported, "experts lora: dropout needs to know the tokens of its rows, which expert parallelism does not send");
    auto mask = torch::empty(rows.sizes(), torch::kFloat32);
    const auto* token = context.row_token.data_ptr<int64_t>();
    const auto stream = context.random.at("lora_dropout");
    for (int64_t r = 0; r < rows.size(0); ++r)
      stream.fill_uniform(mask.data_ptr<float>() + r * d_in_, d_in_, static_cast<uint64_t>((context.first_token + token[r]) * d_in_));
    return rows * (mask >= dropout_).to(rows.device(), rows.scalar_type()) / (1 - dropout_);
  }

  int64_t d_in_, d_out_, rank_;
  double dropout_, scale_ = 1;
  bool merge_factors_;
  torch::Tensor a_, b_;  // [E, r, d_in], [E, d_out, r]
};

}  // namespace

ExpertEntry expert_lora() { return plug_in<LoraBank, ExpertEntry>("lora", "arXiv:2106.09685", "a matrix of low rank, B A x, added to what is there"); }

}  // namespace switchyard
