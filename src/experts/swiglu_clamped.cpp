// The network of gpt-oss: E(x) = ((u + 1) * g sigmoid(a g)) W_out^T + b_out with
//
//   g = min(x W_g^T + b_g, limit)        u = clamp(x W_u^T + b_u, -limit, limit)        a = 1.702, limit = 7
//
// g sigmoid(a g) with this a is near GELU(g). What lies beyond a limit has no gradient. The released weights interleave gate and up.
// Source: model card of gpt-oss, arXiv:2508.10925, and its released code.
#include "core/ffn_bank.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {
namespace {

struct ClampedOptions : GatedFfnOptions {
  double alpha = 1.702, limit = 7;
  ClampedOptions() { bias = true; }
  template <class V> void fields(V&& v) {
    GatedFfnOptions::fields(v);
    v("alpha", alpha, "of z sigmoid(alpha z)");
    v("limit", limit, "gate at most this, up between minus and plus this");
  }
};

FfnForm clamped(const ClampedOptions& o) {
  if (!(o.alpha > 0 && std::isfinite(o.alpha))) fail(ErrorKind::config, "experts swiglu_clamped: alpha = {}, expected a number above 0", o.alpha);
  if (!(o.limit > 0)) fail(ErrorKind::config, "experts swiglu_clamped: limit = {}, expected a number above 0", o.limit);
  return {.phi = "silu", .gated = true, .interleaved = o.interleaved, .before = [alpha = o.alpha, limit = o.limit](const torch::Tensor& z) {
            const auto f = z.size(1) / 2;
            return at::cat({z.slice(1, 0, f).clamp_max(limit) * alpha, (z.slice(1, f).clamp(-limit, limit) + 1) / alpha}, 1);
          }};
}

}  // namespace

ExpertEntry expert_swiglu_clamped() {
  return ffn_entry<ClampedOptions>("swiglu_clamped", "arXiv:2508.10925", "three matrices, SiLU gate between limits, up + 1", clamped);
}

}  // namespace switchyard
