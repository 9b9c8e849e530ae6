// E(x) = (swish_b(x W_g^T) * x W_u^T) W_out^T, swish_b(z) = z sigmoid(b z); b = 1 is SiLU. Source: arXiv:2002.05202.
#include "core/ffn_bank.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {
namespace {

struct SwigluOptions : GatedFfnOptions {
  double beta = 1;
  template <class V> void fields(V&& v) {
    GatedFfnOptions::fields(v);
    v("beta", beta, "of swish(z) = z sigmoid(beta z)");
  }
};

FfnForm swiglu(const SwigluOptions& o) {
  if (!(o.beta > 0 && std::isfinite(o.beta))) fail(ErrorKind::config, "experts swiglu: beta = {}, expected a number above 0", o.beta);
  FfnForm form{.phi = "silu", .gated = true, .interleaved = o.interleaved};
  if (o.beta != 1)  // swish_b(g) u = silu(b g) (u / b)
    form.before = [beta = o.beta](const torch::Tensor& z) {
      const auto f = z.size(1) / 2;
      return z * at::cat({torch::full({f}, beta, z.options()), torch::full({f}, 1 / beta, z.options())});
    };
  return form;
}

}  // namespace

ExpertEntry expert_swiglu() { return ffn_entry<SwigluOptions>("swiglu", "arXiv:2002.05202", "three matrices, SiLU gate", swiglu); }

}  // namespace switchyard
