// Load loss:  L = CV(Load)^2,  Load_e = sum over tokens of the probability that e would be chosen if its noise alone were
// drawn again. Phi is the normal distribution function, z the logits before noise, h those with noise.
//   form = "exclusive"  Pr_ti = Phi((z_ti - kth largest of h_t without i) / std_ti)    Shazeer et al., arXiv:1701.06538 appendix A
//   form = "inclusive"  Pr_ti = Phi((z_ti - kth largest of h_t) / std)                 V-MoE, arXiv:2106.05974 appendix A
// Needs noise: its deviation is learned by noise = "learned_gaussian", or given here as `std` for a fixed one. The
// thresholds carry gradient unless `detach_threshold`. With k = E nobody is left out: Load is the count, a constant.
#include "core/cv_squared.h"
#include "core/expected_load.h"
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class Load final : public LossTerm {
 public:
  struct Options {
    std::string form = "exclusive";
    double std = 0;
    bool detach_threshold = false, unbiased = false;
    template <class V> void fields(V&& v) {
      v("form", form, "exclusive: the threshold leaves the expert itself out; inclusive: it does not");
      v("std", std, "deviation of the noise; 0 = that which the gate learns");
      v("detach_threshold", detach_threshold, "no gradient through the threshold");
      v("unbiased", unbiased, "variance over E - 1 instead of E");
    }
  };

  explicit Load(const Options& o) : o_(o) {
    if (o.form != "exclusive" && o.form != "inclusive") fail(ErrorKind::config, "loss load: form = '{}', expected exclusive or inclusive", o.form);
    if (!(o.std >= 0)) fail(ErrorKind::config, "loss load: std = {}, expected 0 or more", o.std);
  }

  torch::Tensor value(const RoutingStats& s) const override {
    const auto& z = s.scores.logits;
    if (!z.defined() || s.top_k < 1) fail(ErrorKind::config, "loss load: the gate of layer {} ranks no logits", s.layer);
    if (s.num_tokens == 0 || s.top_k >= s.num_experts) return z.sum() * 0;
    // Outside training there is no noise, and evaluation reports no load loss.
    if (!s.scores.noise_std.defined() && o_.std == 0) return without_noise(s);
    const auto noisy = s.scores.noisy.defined() ? s.scores.noisy : z;
    const auto std = o_.std > 0 ? torch::full({}, o_.std, z.options()) : s.scores.noise_std;
    return cv_squared(chance_to_be_chosen(z, o_.detach_threshold ? noisy.detach() : noisy, std, s.top_k, o_.form == "inclusive").sum(0), o_.unbiased);
  }

 private:
  static torch::Tensor without_noise(const RoutingStats& s) {
    if (s.training)
      fail(ErrorKind::config, "loss load: the gate of layer {} draws no learned noise; use noise = 'learned_gaussian', or give the std of its noise", s.layer);
    return cv_squared(s.counts);
  }

  Options o_;
};

}  // namespace

LossEntry loss_load() { return plug_in<Load, LossEntry>("load", "arXiv:1701.06538", "squared variation of the expected loads under noise"); }

}  // namespace switchyard
