// Mixtures of small experts at the sites of one block: a Mixture-of-Experts layer beside a linear, or in place of an activation.
//
//   added        y' = y + M(x)    experts that read the input of the linear, as LoRA does (arXiv:2106.09685)
//   rescaling    y' = M(y)        experts that read what comes out, as vectors do that multiply it (arXiv:2205.05638)
//
// M is a MoELayer: any gate, any bank, any loss. Several mixtures at one site act one behind the other, in the order of the
// specification; each added one reads the same x.
#pragma once

#include "switchyard/moe.h"
#include "switchyard/site.h"

namespace switchyard {

struct SiteMixture {
  int64_t mixture = 0;  // its number in ModelSpec::mixtures
  Site site;
  std::shared_ptr<MoELayer> moe;
  std::vector<int64_t> tags;  // of the tokens that take part; empty = all
  int64_t heads = 1;          // above 1: each head of a token is routed as a token of its own

  // x [..., d_in], y [..., d_out] -> [..., d_out].
  [[nodiscard]] torch::Tensor operator()(const torch::Tensor& x, const torch::Tensor& y, const GateInput& tokens, RoutingStats& stats) const;

 private:
  [[nodiscard]] GateInput members(const GateInput& tokens) const;
};

// `options` with the widths that a mixture of these experts has at a site. Throws Error{config} for experts that do not fit there.
[[nodiscard]] MoEOptions fitted(MoEOptions options, const Site& site, bool per_head);

class SiteMixtures final : public torch::nn::Module {
 public:
  explicit SiteMixtures(std::vector<SiteMixture> places);

  // One call of the block. `tokens` describes its tokens without `hidden`; what each mixture did is appended to `done`.
  [[nodiscard]] SiteHook hook(GateInput tokens, std::vector<MixtureStats>& done) const;
  [[nodiscard]] const std::vector<SiteMixture>& places() const { return places_; }

 private:
  std::vector<SiteMixture> places_;
};

}  // namespace switchyard
