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

#include <functional>
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

struct GatedFfnOptions : FfnOptions {
  bool interleaved = false;
  template <class V> void fields(V&& v) {
    FfnOptions::fields(v);
    v("interleaved", interleaved, "rows of w_in (and b_in) are gate, up, gate, up ... instead of all gate rows first");
  }
};

// What the kinds differ in.
struct FfnForm {
  std::string phi;     // an activation of core/ops.h
  bool gated = false;
  bool interleaved = false;  // W_in [E, 2f, d]: even rows gate, odd rows up
  int64_t further = 0;       // linears in front of the gate, W_in [E, (2 + further) f, d]; `before` makes two of them all
  std::function<torch::Tensor(const torch::Tensor& z)> before = {};  // bends [N, linears * f] before phi; gate half first

  [[nodiscard]] int64_t linears() const { return (gated ? 2 : 1) + further; }
};

class FfnBank : public ExpertBank {
 public:
  FfnBank(const BankShape& shape, FfnForm form, const FfnOptions& options = {});

  torch::Tensor forward(const torch::Tensor& rows, const torch::Tensor& offsets, const RowContext& context) override;
  torch::Tensor forward_merged(const torch::Tensor& rows, const torch::Tensor& offsets, const torch::Tensor& weights,
                               const RowContext& context) override;
  int64_t parameters_per_expert() const override {
    return (form_.linears() + 1) * d_model_ * d_expert_ + (weights_.b_in.defined() ? form_.linears() * d_expert_ + d_model_ : 0);
  }
  double flops_per_row() const override { return 2.0 * static_cast<double>((form_.linears() + 1) * d_model_ * d_expert_); }
  torch::Tensor forward_tokens(const torch::Tensor& tokens, const DispatchPlan& plan, const torch::Tensor& weights, const RowContext& context) override;
  std::vector<Packable> packable() const override;
  torch::Tensor flat_weights() const override;
  std::vector<Site> sites() const override;

  // Sees the inner activations h [N, f] of every call (behind phi, before dropout), for diagnostics; an empty function ends it.
  using Observer = std::function<void(const torch::Tensor& offsets, const torch::Tensor& h, const RowContext& context)>;
  void observe(Observer observer) { observer_ = std::move(observer); }
  [[nodiscard]] int64_t d_expert() const { return d_expert_; }
  [[nodiscard]] int64_t num_local_experts() const { return weights_.in.size(0); }

 protected:
  struct Weights {
    torch::Tensor in, out, b_in, b_out;  // [E, f or 2f, d], [E, d, f], [E, f or 2f], [E, d]; the last two undefined without biases
  };
  // The network with these weights, for banks that make them of what they store.
  torch::Tensor run(const torch::Tensor& rows, const torch::Tensor& offsets, const Weights& w, const RowContext& context) const;
  [[nodiscard]] const Weights& weights() const { return weights_; }
  // One averaged expert per row of mix [G, E].
  [[nodiscard]] static Weights merged(const Weights& w, const torch::Tensor& mix);

 private:
  // True when packed weights can go the whole way in one kernel: nobody looks in between.
  [[nodiscard]] bool one_kernel(const torch::Tensor& rows, const RowContext& context) const;
  [[nodiscard]] torch::Tensor with_sites(const torch::Tensor& rows, const torch::Tensor& z, const SiteHook& hook) const;
  [[nodiscard]] torch::Tensor dropped(const torch::Tensor& inner, const torch::Tensor& offsets, const RowContext& context) const;

  int64_t d_model_, d_expert_, first_expert_;
  double dropout_;
  FfnForm form_;
  Weights weights_;
  Observer observer_;
};

// The entry of one kind, src/experts/<name>.cpp: an activation alone, or options of its own (FfnOptions or derived) and the form that they give.
[[nodiscard]] ExpertEntry ffn_entry(std::string name, std::string ref, std::string summary, std::string phi, bool gated);

// `form_of` throws Error{config} for options that make no sense.
template <class Options>
[[nodiscard]] ExpertEntry ffn_entry(std::string name, std::string ref, std::string summary, std::function<FfnForm(const Options&)> form_of) {
  const auto read = [](const ConfigNode& node, const std::string& path) {
    Options options;
    read_fields(options, node, path);
    return options;
  };
  return {.name = std::move(name), .ref = std::move(ref), .summary = std::move(summary), .options = describe_fields<Options>(),
          .check = [read, form_of](const ConfigNode& node, const std::string& path) { (void)form_of(read(node, path)); },
          .make = [read, form_of](const ConfigNode& node, const BankShape& shape) -> std::shared_ptr<ExpertBank> {
            const Options options = read(node, "");
            return std::make_shared<FfnBank>(shape, form_of(options), options);
          }};
}

}  // namespace switchyard
