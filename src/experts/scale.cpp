// E(t) = l * t, one vector l per expert that multiplies an activation element by element, 1 at first: (IA)^3, arXiv:2205.05638
// section 3.3. A mixture of them takes the place of what it multiplies:
//   t' = sum_i p_i (l_i * t) = (sum_i p_i l_i) * t
// so that averaged vectors (forward_merged) are averaged outputs. Where each head of a token is a row of its own, every expert
// has one vector per head (MoV, arXiv:2309.05444).
#include "core/expert_of_rows.h"
#include "switchyard/error.h"
#include "switchyard/expert_bank.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class ScaleBank final : public ExpertBank {
 public:
  using Options = NoOptions;

  ScaleBank(const Options&, const BankShape& s) : width_(s.d_model), heads_(s.heads) {
    if (width_ < 1) fail(ErrorKind::config, "d_model = {} in layers.{}, expected at least 1", width_, s.layer);
    scale_ = register_parameter("scale", torch::ones({s.local(), heads_ * width_}));
  }

  torch::Tensor forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext& context) override {
    auto vector = expert_of_rows(offsets);
    if (heads_ > 1) vector = vector * heads_ + heads(context);
    return rows * scale_.view({-1, width_}).index_select(0, beside(scale_, vector));
  }

  torch::Tensor forward_merged(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& weights, const RowContext& context) override {
    const auto mix = weights.to(scale_.device(), scale_.scalar_type());
    if (heads_ == 1) return rows * of_experts(at::matmul(mix, scale_), offsets);
    const auto mix_of_row = of_experts(mix, offsets);
    const auto by_head = scale_.view({-1, heads_, width_});
    const auto head = heads(context);
    auto vectors = torch::zeros_like(rows).detach();
    for (int64_t h = 0; h < heads_; ++h) {
      const auto here = beside(rows, (head == h).nonzero().view({-1}));
      vectors = vectors.index_add(0, here, at::matmul(mix_of_row.index_select(0, here), by_head.select(1, h)));
    }
    return rows * vectors;
  }

  int64_t parameters_per_expert() const override { return heads_ * width_; }
  double flops_per_row() const override { return static_cast<double>(width_); }
  torch::Tensor flat_weights() const override { return scale_.detach(); }
  bool rescales() const override { return true; }

 private:
  [[nodiscard]] torch::Tensor heads(const RowContext& context) const {
    if (!context.row_token.defined())
      fail(ErrorKind::unsupported, "experts scale: vectors per head need to know the rows, which expert parallelism does not send");
    return at::remainder(context.row_token, heads_);
  }

  int64_t width_, heads_;
  torch::Tensor scale_;  // [E, heads * width]
};

}  // namespace

ExpertEntry expert_scale() { return plug_in<ScaleBank, ExpertEntry>("scale", "arXiv:2205.05638", "a vector that multiplies what is there"); }

}  // namespace switchyard
