// The k best of n^2 keys that are pairs of halves, without looking at all of them.
//
//   key (i, j) = [a_i; b_j],   score (i, j) = first_i + second_j,   number i n + j
//
// A pair among the k best has both halves among the k best of theirs: else k pairs with a better half would be ahead of it. So the k best
// of each half are taken, then the k best of their k^2 sums. Equal scores go to the lower number, as a search over all pairs does
// (as long as float32 tells the sums apart that the halves tell apart). Source: arXiv:1907.05242 section 3.1.
#pragma once

#include <torch/types.h>

namespace switchyard {

struct ProductTop {
  torch::Tensor ids, scores;  // [R, k]: i n + j int64, and the scores, largest first, with gradient
};

// first, second [R, n]; 1 <= k <= n^2. `half`: how many of each half are looked at; min(k, n) is exact, fewer are not (-1 = that).
[[nodiscard]] ProductTop product_top_k(const torch::Tensor& first, const torch::Tensor& second, int64_t k, int64_t half = -1);

}  // namespace switchyard
