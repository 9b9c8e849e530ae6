// Places inside a transformer block where a mixture of small experts may sit, by name:
//
//   attn.q  attn.k  attn.v  attn.o     projections of the attention
//   ffn.gate  ffn.up  ffn.down         matrices of a dense feed-forward network (a plain one has no ffn.gate)
//   ffn.inner                          the activation between them
//
// Whoever computes one of these offers it by name; who sits there is not its business. Without a hook nothing happens.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace switchyard {

struct Site {
  std::string name;
  int64_t d_in = 0, d_out = 0;  // of the linear; equal at an activation
  int64_t heads = 1;            // the output is so many heads side by side
};

// x [..., d_in] goes in and y [..., d_out] comes out of a linear (at an activation y is x): what stands in the place of y.
using SiteHook = std::function<torch::Tensor(std::string_view site, const torch::Tensor& x, const torch::Tensor& y)>;

[[nodiscard]] inline torch::Tensor at_site(const SiteHook& hook, std::string_view site, const torch::Tensor& x, const torch::Tensor& y) {
  return hook ? hook(site, x, y) : y;
}

}  // namespace switchyard
