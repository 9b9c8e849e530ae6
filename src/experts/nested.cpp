#include "experts/nested.h"

#include "core/beside.h"
#include "core/ops.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

namespace switchyard {
namespace {

struct NetworkForm {
  const char* name;
  const char* phi;
  bool gated;
};
constexpr NetworkForm kForms[] = {{"relu", "relu", false}, {"gelu", "gelu", false}, {"gelu_tanh", "gelu_tanh", false}, {"geglu", "gelu", true}, {"geglu_tanh", "gelu_tanh", true},
                                  {"swiglu", "silu", true}};

const NetworkForm& form_of(const std::string& name) {
  for (const NetworkForm& form : kForms)
    if (name == form.name) return form;
  fail(ErrorKind::config, "experts nested: of = '{}', expected relu, gelu, gelu_tanh, geglu, geglu_tanh or swiglu", name);
}

std::vector<int64_t> widths_of(const std::vector<double>& shares, const BankShape& s) {
  if (!shares.empty() && static_cast<int64_t>(shares.size()) != s.num_experts)
    fail(ErrorKind::config, "experts nested: {} shares in layers.{}.ffn, expected num_experts = {}", shares.size(), s.layer, s.num_experts);
  std::vector<int64_t> out;
  for (int64_t e = 0; e < s.num_experts; ++e) {
    const double share = shares.empty() ? static_cast<double>(e + 1) / static_cast<double>(s.num_experts) : shares[static_cast<size_t>(e)];
    if (!(share > 0 && share <= 1) || (e + 1 == s.num_experts && share != 1))
      fail(ErrorKind::config, "experts nested: shares[{}] = {} in layers.{}.ffn, expected more than 0 and at most 1, the last one 1", e, share, s.layer);
    const auto width = static_cast<int64_t>(std::lround(share * static_cast<double>(s.d_expert)));
    if (width <= (out.empty() ? 0 : out.back()))
      fail(ErrorKind::config, "experts nested: expert {} of layers.{}.ffn has {} of d_expert = {} neurons, the one before {}; expected rising widths", e,
           s.layer, width, s.d_expert, out.empty() ? 0 : out.back());
    out.push_back(width);
  }
  return out;
}

}  // namespace

NestedBank::NestedBank(const Options& o, const BankShape& s)
    : d_model_(s.d_model), d_expert_(s.d_expert), phi_(form_of(o.of).phi), gated_(form_of(o.of).gated), widths_(widths_of(o.shares, s)) {
  if (s.d_model < 1) fail(ErrorKind::config, "d_model = {} in layers.{}.ffn, expected at least 1", s.d_model, s.layer);
  if (s.local() != s.num_experts && s.local() > 0)
    fail(ErrorKind::unsupported, "experts nested: those of layers.{}.ffn are one network, which must be on one rank", s.layer);
  const auto draw = [&](const char* name, int64_t rows, int64_t cols, double std) {
    auto w = torch::zeros({rows, cols});
    if (std != 0) RandomStream(s.seed).at("nested", static_cast<uint64_t>(s.layer)).at(name).fill_normal(w.data_ptr<float>(), w.numel());
    return register_parameter(name, w.mul_(std));
  };
  in_ = draw("w_in", d_expert_, d_model_, s.init_std);
  if (gated_) up_ = draw("w_up", d_expert_, d_model_, s.init_std);
  out_ = draw("w_out", d_model_, d_expert_, s.init_out_std);
}

torch::Tensor NestedBank::inner(const torch::Tensor& rows, const torch::Tensor& gate, const torch::Tensor& up) const {
  const auto h = ops::activation(phi_, ops::linear(rows, gate));
  return up.defined() ? h * ops::linear(rows, up) : h;
}

torch::Tensor NestedBank::forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext&) {
  std::vector<int64_t> sizes;  // of the blocks
  for (size_t e = 0; e < widths_.size(); ++e) sizes.push_back(widths_[e] - (e == 0 ? 0 : widths_[e - 1]));
  const auto gate = in_.split_with_sizes(sizes, 0), out = out_.split_with_sizes(sizes, 1);
  const auto up = gated_ ? up_.split_with_sizes(sizes, 0) : std::vector<torch::Tensor>(sizes.size());
  const auto* first = offsets.data_ptr<int64_t>();
  std::vector<torch::Tensor> done;  // rows whose expert ends with the block
  torch::Tensor y;                  // of the rows that are still open
  for (size_t j = 0; j < sizes.size(); ++j) {
    const auto open = rows.slice(0, first[j]);
    const auto part = ops::linear(inner(open, gate[j], up[j]), out[j]);
    y = y.defined() ? y + part : part;
    const int64_t ends = first[j + 1] - first[j];
    done.push_back(y.slice(0, 0, ends));
    y = y.slice(0, ends);
  }
  return at::cat(done, 0);
}

double NestedBank::flops_of(int64_t expert) const {
  return 2.0 * static_cast<double>((gated_ ? 3 : 2) * d_model_ * widths_.at(static_cast<size_t>(expert)));
}

torch::Tensor NestedBank::flat_weights() const {
  std::vector<torch::Tensor> out;
  const auto neuron = beside(out_, torch::arange(d_expert_, torch::kInt64));
  for (const int64_t width : widths_) out.push_back((out_.detach() * (neuron < width).to(out_.scalar_type())).flatten());
  return at::stack(out);
}

torch::Tensor NestedBank::importance(const torch::Tensor& inputs) const {
  const c10::NoGradGuard no_grad;
  return inner(inputs.reshape({-1, d_model_}), in_, up_).abs().mean(0) * out_.norm(2, {0});
}

void NestedBank::sort_neurons(const torch::Tensor& inputs) {
  const c10::NoGradGuard no_grad;
  const auto order = std::get<1>(at::sort(importance(inputs), /*stable=*/true, /*dim=*/0, /*descending=*/true));
  in_.copy_(in_.index_select(0, order));
  if (gated_) up_.copy_(up_.index_select(0, order));
  out_.copy_(out_.index_select(1, order));
}

ExpertEntry expert_nested() {
  return plug_in<NestedBank, ExpertEntry>("nested", "arXiv:2406.10260", "widths of one network: each expert is a part of the next");
}

}  // namespace switchyard
