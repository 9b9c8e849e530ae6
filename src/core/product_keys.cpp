#include "core/product_keys.h"

#include "core/ops.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace switchyard {
namespace {

// The best `count` of each row, in the order of their ids, so that places among the sums are in the order of the numbers of pairs.
// Scores that are no numbers choose nobody: such rows go on with id 0 and stay no numbers.
torch::Tensor best_in_order(const torch::Tensor& scores, int64_t count) { return std::get<0>(ops::top_k(scores, count).clamp_min(0).sort(1)); }

}  // namespace

ProductTop product_top_k(const torch::Tensor& first, const torch::Tensor& second, int64_t k, int64_t half) {
  const int64_t n = first.size(1), rows = first.size(0);
  if (half < 0) half = std::min(k, n);
  if (k < 1 || half < 1 || half > n || k > half * half) fail(ErrorKind::usage, "product keys: {} of {} x {} pairs, expected 1 to {}", k, half, half, half * half);
  torch::Tensor i, j, place;
  {
    const torch::NoGradGuard no_grad;
    i = best_in_order(first, half);
    j = best_in_order(second, half);
    const auto sums = first.gather(1, i).unsqueeze(2) + second.gather(1, j).unsqueeze(1);  // [R, half, half]
    place = ops::top_k(sums.view({rows, half * half}), k).clamp_min(0);
    i = i.gather(1, at::floor_divide(place, half));
    j = j.gather(1, at::remainder(place, half));
  }
  return {i * n + j, first.gather(1, i) + second.gather(1, j)};
}

}  // namespace switchyard
