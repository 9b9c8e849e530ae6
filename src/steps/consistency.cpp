#include "steps/consistency.h"

#include "core/beside.h"
#include "data/batches.h"
#include "switchyard/random.h"

#include <ATen/ATen.h>

namespace switchyard {

torch::Tensor disagreement(const torch::Tensor& first, const torch::Tensor& second, const torch::Tensor& labels) {
  const auto scored = beside(first, labels != static_cast<int64_t>(data::kIgnoredLabel));
  const auto log_probs = [&](const torch::Tensor& logits) {
    const auto rows = logits.index({scored});
    return at::log_softmax(rows.scalar_type() == torch::kFloat64 ? rows : rows.to(torch::kFloat32), -1);
  };
  const auto p = log_probs(first), q = log_probs(second);
  return 0.5 * ((p.exp() - q.exp()) * (p - q)).sum();
}

uint64_t seed_of_pass(uint64_t seed, int64_t pass) { return pass == 0 ? seed : RandomStream(seed).at("pass", static_cast<uint64_t>(pass)).bits(0); }

}  // namespace switchyard
