#include "core/ops.h"
#include "core/torch_compat.h"

#include <ATen/ATen.h>

namespace switchyard::ops {

torch::Tensor cross_entropy(const torch::Tensor& logits, const torch::Tensor& labels) {
  const auto scored = labels != -100;
  const auto picked = at::log_softmax(logits, -1).gather(1, labels.clamp_min(0).unsqueeze(1)).squeeze(1);
  return at::where(scored, -picked, torch::zeros({}, logits.options()));
}

}  // namespace switchyard::ops
