#include "core/rotate_heads.h"

#include "core/ops.h"

#include <ATen/ATen.h>

namespace switchyard {

torch::Tensor rotate_heads(const torch::Tensor& x, const CallContext& call, int64_t first, int64_t dims, bool adjacent) {
  if (dims == 0 || !call.rotary.cos.defined()) return x;
  const auto turn = [&](torch::Tensor part) {
    if (adjacent) {
      auto pairs = part.sizes().vec();
      pairs.back() = dims / 2;
      pairs.push_back(2);
      part = part.reshape(pairs).transpose(-1, -2).reshape(part.sizes());
    }
    return ops::rope(part.contiguous(), call.positions, call.rotary.cos, call.rotary.sin);
  };
  const int64_t width = x.size(-1), last = first + dims;
  if (first == 0 && last == width) return turn(x);
  std::vector<torch::Tensor> parts;
  if (first > 0) parts.push_back(x.slice(-1, 0, first));
  parts.push_back(turn(x.slice(-1, first, last)));
  if (last < width) parts.push_back(x.slice(-1, last, width));
  return at::cat(parts, -1);
}

}  // namespace switchyard
