#include "experts/partial.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

namespace switchyard {
namespace {

FfnForm partial_form(const std::string& kind) {
  struct Row {
    const char *name, *phi;
    bool gated;
  };
  static constexpr Row kRows[] = {{"relu", "relu", false},     {"relu2", "relu2", false}, {"gelu", "gelu", false}, {"gelu_tanh", "gelu_tanh", false}, {"glu", "sigmoid", true},
                                  {"bilinear", "identity", true}, {"reglu", "relu", true},   {"geglu", "gelu", true},
                                  {"geglu_tanh", "gelu_tanh", true}, {"swiglu", "silu", true}};
  for (const Row& row : kRows)
    if (kind == row.name) return {.phi = row.phi, .gated = row.gated};
  fail(ErrorKind::config, "experts partial: of = '{}', expected relu, relu2, gelu, gelu_tanh, glu, bilinear, reglu, geglu, geglu_tanh or swiglu", kind);
}

}  // namespace

PartialBank::PartialBank(const Options& o, const BankShape& s) : FfnBank(s, partial_form(o.of), o), lambda_(o.lambda) {
  if (o.lambda != "both" && o.lambda != "dynamic" && o.lambda != "static" && o.lambda != "none")
    fail(ErrorKind::config, "experts partial: lambda = '{}', expected both, dynamic, static or none", o.lambda);
  if (s.local() != s.num_experts && s.local() > 0)
    fail(ErrorKind::unsupported, "experts partial: those of layers.{}.ffn share entries, which must be on one rank", s.layer);
  const auto shared = register_module("shared", std::make_shared<torch::nn::Module>("shared"));
  const c10::NoGradGuard no_grad;
  for (const int i : {0, 1}) {
    const auto& w = matrix(i);
    const std::string name = i == 0 ? "w_in" : "w_out";
    const auto shape = w.sizes().slice(1);
    static_[i] = shared->register_parameter(name, w.size(0) > 0 ? w.detach().mean(0) : torch::zeros(shape));
    masks_[i] = shared->register_buffer("mask_" + name, torch::ones(shape));
    scores_[i] = torch::zeros(shape);
  }
  phi_ = o.lambda == "none" ? torch::zeros({1}) : shared->register_parameter("phi", torch::zeros({1}));
}

std::pair<torch::Tensor, torch::Tensor> PartialBank::factors() const {
  const auto one = torch::ones({1}, matrix(0).options().requires_grad(false)), dynamic = 2 * at::sigmoid(phi_);
  if (lambda_ == "none") return {one, one};
  return {lambda_ == "static" ? one : dynamic, lambda_ == "dynamic" ? one : 2 - dynamic};
}

FfnBank::Weights PartialBank::effective() const {
  Weights out = weights();
  const auto [dynamic, fixed] = factors();
  const auto mixed = [&, &dynamic = dynamic, &fixed = fixed](int i) {
    const auto mask = masks_[i].to(matrix(i).scalar_type());
    return dynamic * mask * matrix(i) + fixed * (1 - mask) * static_[i];
  };
  out.in = mixed(0);
  out.out = mixed(1);
  return out;
}

torch::Tensor PartialBank::forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext& context) {
  return run(rows, offsets, effective(), context);
}

torch::Tensor PartialBank::forward_merged(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& weights, const RowContext& context) {
  return run(rows, offsets, merged(effective(), weights), context);
}

void PartialBank::add_scores() {
  const c10::NoGradGuard no_grad;
  for (const int i : {0, 1})
    if (matrix(i).grad().defined()) scores_[i] += (matrix(i).grad() * matrix(i)).sum(0).abs().to(scores_[i].scalar_type());
}

void PartialBank::keep(double share) {
  if (!(share >= 0 && share <= 1)) fail(ErrorKind::usage, "partition: share = {}, expected 0 to 1", share);
  const c10::NoGradGuard no_grad;
  for (const int i : {0, 1}) {
    const auto count = static_cast<int64_t>(std::llround(share * static_cast<double>(masks_[i].numel())));
    const auto now = static_cast<int64_t>(masks_[i].sum().item<double>());
    if (count > now) fail(ErrorKind::usage, "partition: share = {} of {} entries, but only {} are dynamic", share, masks_[i].numel(), now);
    const auto score = at::where(masks_[i].flatten() > 0, scores_[i].flatten(), torch::full({}, -1, scores_[i].options()));
    const auto order = std::get<1>(score.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true));
    auto mask = torch::zeros_like(score);
    mask.index_fill_(0, order.slice(0, 0, count), 1);
    const auto turned = (masks_[i].flatten() > 0) & (mask == 0);
    static_[i].copy_(at::where(turned.view_as(static_[i]), matrix(i).mean(0), static_[i]));
    masks_[i].copy_(mask.view_as(masks_[i]));
    scores_[i].zero_();
  }
}

void PartialBank::set_static_to_mean() {
  const c10::NoGradGuard no_grad;
  for (const int i : {0, 1}) static_[i].copy_(matrix(i).mean(0));
}

int64_t PartialBank::dynamic_entries() const { return static_cast<int64_t>((masks_[0].sum() + masks_[1].sum()).item<double>()); }

ExpertEntry expert_partial() {
  return plug_in<PartialBank, ExpertEntry>("partial", "arXiv:2211.05528", "experts of which a masked part is the same for all (PAD-Net)");
}

}  // namespace switchyard
