// The load that a noisy top-k gate would have on average if the noise of one expert at a time were drawn again.
#pragma once

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {

// Pr_ti = Phi((clean_ti - threshold_ti) / std_ti), Phi the normal distribution function; the threshold is the k-th largest of
// `noisy` in row t without component i (arXiv:1701.06538 appendix A), or with it when `inclusive` (arXiv:2106.05974 appendix A).
// clean, noisy [T, E], k < E, std [T, E] or a scalar tensor -> [T, E].
[[nodiscard]] inline at::Tensor chance_to_be_chosen(const at::Tensor& clean, const at::Tensor& noisy, const at::Tensor& std, int64_t k,
                                                    bool inclusive = false) {
  const auto best = std::get<0>(noisy.topk(k + 1, -1));  // sorted; ties do not matter, only values are used
  const auto kth = best.slice(1, k - 1, k);
  const auto threshold = inclusive ? kth : at::where(noisy.detach() >= kth.detach(), best.slice(1, k, k + 1), kth);
  return 0.5 * (1 + at::erf((clean - threshold) / std / std::sqrt(2.0)));
}

}  // namespace switchyard
