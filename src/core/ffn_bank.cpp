#include "core/ffn_bank.h"

#include "core/expert_of_rows.h"
#include "core/ops.h"
#include "core/packed_parameter.h"
#include "core/torch_compat.h"
#include "core/untouched_zeros.h"
#include "kernels/packed/expert_ffn.h"
#include "switchyard/error.h"
#include "switchyard/random.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

// [local, rows, cols]; the draw of an expert depends on its global number, not on who holds it. std = 0: weights come later.
torch::Tensor draw(const BankShape& s, const char* name, int64_t rows, int64_t cols, double std) {
  if (std == 0) return untouched_zeros({s.local(), rows, cols});
  auto w = torch::empty({s.local(), rows, cols});
  for (int64_t e = 0; e < s.local(); ++e)
    RandomStream(s.seed).at(name, static_cast<uint64_t>(s.layer)).at("expert", static_cast<uint64_t>(s.first_expert + e))
        .fill_normal(w.data_ptr<float>() + e * rows * cols, rows * cols);
  return w.mul_(std);
}

// What packed experts make of rows: y [tokens, d], to be filled by the caller's plan.
kernels::packed::ExpertFfn packed_call(const FfnForm& form, const PackedWeights& in, const PackedWeights& out, const torch::Tensor& x,
                                       const torch::Tensor& offsets, const torch::Tensor& y) {
  return {.in = &in, .out = &out, .phi = ops::kernel_activation(form.phi), .gated = form.gated, .offsets = offsets.data_ptr<int64_t>(),
          .x = x.data_ptr<float>(), .y = y.data_ptr<float>(), .tokens = x.size(0)};
}

}  // namespace

FfnBank::FfnBank(const BankShape& s, FfnForm form, const FfnOptions& o)
    : d_model_(s.d_model), d_expert_(s.d_expert), first_expert_(s.first_expert), dropout_(o.dropout), form_(std::move(form)) {
  const int64_t rows_in = form_.linears() * s.d_expert;
  if (!(o.dropout >= 0 && o.dropout < 1)) fail(ErrorKind::config, "experts: dropout = {} in layers.{}.ffn, expected 0 <= dropout < 1", o.dropout, s.layer);
  if (s.d_model < 1) fail(ErrorKind::config, "d_model = {} in layers.{}.ffn, expected at least 1", s.d_model, s.layer);
  if (s.d_expert < 1) fail(ErrorKind::config, "d_expert = {} in layers.{}.ffn, expected at least 1", s.d_expert, s.layer);
  if (s.num_experts < 1) fail(ErrorKind::config, "num_experts = {} in layers.{}.ffn, expected at least 1", s.num_experts, s.layer);
  weights_.in = register_parameter("w_in", draw(s, "w_in", rows_in, s.d_model, s.init_std));
  weights_.out = register_parameter("w_out", draw(s, "w_out", s.d_model, s.d_expert, s.init_out_std));
  if (!o.bias) return;
  weights_.b_in = register_parameter("b_in", torch::zeros({s.local(), rows_in}));
  weights_.b_out = register_parameter("b_out", torch::zeros({s.local(), s.d_model}));
}

torch::Tensor FfnBank::run(const torch::Tensor& rows, const torch::Tensor& offsets, const Weights& w, const RowContext& context) const {
  const auto shifted = [&](const torch::Tensor& x, const torch::Tensor& bias) { return bias.defined() ? x + of_experts(bias, offsets) : x; };
  auto z = shifted(ops::grouped_linear(rows, offsets, w.in), w.b_in);  // [N, f] or [N, 2f]
  if (form_.interleaved) z = z.view({-1, d_expert_, 2}).transpose(1, 2).reshape({-1, 2 * d_expert_});
  if (context.at_site) z = with_sites(rows, z, context.at_site);
  if (form_.before) z = form_.before(z);
  auto h = form_.gated ? ops::gated_activation(form_.phi, z) : ops::activation(form_.phi, z);
  h = at_site(context.at_site, "ffn.inner", h, h);
  if (observer_) observer_(offsets, h, context);
  if (context.training && dropout_ > 0) h = dropped(h, offsets, context);
  return at_site(context.at_site, "ffn.down", h, shifted(ops::grouped_linear(h, offsets, w.out), w.b_out));
}

// The joint matrix is two linears to who sits there.
torch::Tensor FfnBank::with_sites(const torch::Tensor& rows, const torch::Tensor& z, const SiteHook& hook) const {
  if (!form_.gated) return hook("ffn.up", rows, z);
  const int64_t gate = z.size(1) - d_expert_;
  return at::cat({hook("ffn.gate", rows, z.slice(1, 0, gate)), hook("ffn.up", rows, z.slice(1, gate))}, 1);
}

std::vector<Site> FfnBank::sites() const {
  std::vector<Site> out;
  if (form_.gated) out.push_back({"ffn.gate", d_model_, (form_.linears() - 1) * d_expert_});
  out.push_back({"ffn.up", d_model_, d_expert_});
  out.push_back({"ffn.inner", d_expert_, d_expert_});
  out.push_back({"ffn.down", d_expert_, d_model_});
  return out;
}

// The mask of a row is named by its expert and token, not by its place among the rows.
torch::Tensor FfnBank::dropped(const torch::Tensor& inner, const torch::Tensor& offsets, const RowContext& context) const {
  if (!context.row_token.defined()) fail(ErrorKind::unsupported, "experts: dropout needs to know the tokens of its rows, which expert parallelism does not send");
  const int64_t width = inner.size(1);
  auto mask = torch::empty(inner.sizes(), torch::kFloat32);
  const auto* token = context.row_token.data_ptr<int64_t>();
  const auto* end = offsets.data_ptr<int64_t>();
  for (int64_t e = 0; e + 1 < offsets.size(0); ++e) {
    const auto stream = context.random.at("expert_dropout", static_cast<uint64_t>(first_expert_ + e));
    for (int64_t r = end[e]; r < end[e + 1]; ++r)
      stream.fill_uniform(mask.data_ptr<float>() + r * width, width, static_cast<uint64_t>((context.first_token + token[r]) * width));
  }
  return inner * (mask >= dropout_).to(inner.device(), inner.scalar_type()) / (1 - dropout_);
}

torch::Tensor FfnBank::forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext& context) {
  if (!one_kernel(rows, context)) return run(rows, offsets, weights_, context);
  const auto x = rows.contiguous();
  auto y = torch::empty({x.size(0), d_model_}, x.options());
  kernels::packed::expert_ffn(packed_call(form_, *packed_form(weights_.in), *packed_form(weights_.out), x, offsets, y));
  return y;
}

torch::Tensor FfnBank::forward_tokens(const torch::Tensor& tokens, const DispatchPlan& plan, const torch::Tensor& weights, const RowContext& context) {
  if (!one_kernel(tokens, context)) return {};
  const auto x = tokens.contiguous(), w = weights.to(torch::kFloat32).contiguous();
  auto y = torch::empty({x.size(0), d_model_}, x.options());
  auto call = packed_call(form_, *packed_form(weights_.in), *packed_form(weights_.out), x, plan.offsets, y);
  call.row_token = plan.row_token.data_ptr<int64_t>();
  call.row_weight_index = plan.row_weight_index.data_ptr<int64_t>();
  call.weights = w.data_ptr<float>();
  kernels::packed::expert_ffn(call);
  return y;
}

bool FfnBank::one_kernel(const torch::Tensor& rows, const RowContext& context) const {
  return packed_form(weights_.in) && packed_form(weights_.out) && on_kernels(rows) && !(at::GradMode::is_enabled() && rows.requires_grad()) &&
         !weights_.b_in.defined() && !form_.before && form_.further == 0 && !context.at_site && !observer_ && !(context.training && dropout_ > 0);
}

std::vector<Packable> FfnBank::packable() const {
  const PackedRows halves = form_.interleaved ? PackedRows::gate_up_alternating : PackedRows::gate_then_up;
  return {{weights_.in, form_.gated && form_.further == 0 ? halves : PackedRows::as_stored}, {weights_.out}};
}

torch::Tensor FfnBank::flat_weights() const {
  if (packed_form(weights_.out)) fail(ErrorKind::unsupported, "weights of experts can be compared in float32 only: load the model with --weights plain");
  return weights_.out.detach().flatten(1);
}

FfnBank::Weights FfnBank::merged(const Weights& w, const torch::Tensor& mix) {
  const auto averaged = [&](const torch::Tensor& x) {
    if (!x.defined()) return x;
    auto shape = x.sizes().vec();
    shape[0] = mix.size(0);
    return at::matmul(mix.to(x.device(), x.scalar_type()), x.flatten(1)).view(shape);
  };
  return {averaged(w.in), averaged(w.out), averaged(w.b_in), averaged(w.b_out)};
}

torch::Tensor FfnBank::forward_merged(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& weights,
                                      const RowContext& context) {
  if (packed_form(weights_.in)) fail(ErrorKind::unsupported, "packed experts cannot be averaged: load the model with --weights plain");
  return run(rows, offsets, merged(weights_, weights), context);
}

torch::Tensor ExpertBank::forward_merged(const torch::Tensor&, const torch::Tensor&, const torch::Tensor&, const RowContext&) {
  fail(ErrorKind::unsupported, "these experts cannot be merged: their parameters have no meaningful average");
}

ExpertEntry ffn_entry(std::string name, std::string ref, std::string summary, std::string phi, bool gated) {
  if (gated)
    return ffn_entry<GatedFfnOptions>(std::move(name), std::move(ref), std::move(summary), [phi = std::move(phi)](const GatedFfnOptions& o) {
      return FfnForm{.phi = phi, .gated = true, .interleaved = o.interleaved};
    });
  return ffn_entry<FfnOptions>(std::move(name), std::move(ref), std::move(summary), [phi = std::move(phi)](const FfnOptions&) { return FfnForm{.phi = phi}; });
}

}  // namespace switchyard
