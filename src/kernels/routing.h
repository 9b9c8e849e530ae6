// Decisions to index lists: top-k, places under a capacity, and the counting sort by expert. Linear in tokens * k + experts
// (top-k: tokens * experts); nothing of the size tokens x experts x capacity exists.
#pragma once

#include <cstdint>

namespace switchyard::kernels {

// The k highest of each row of scores [rows, experts], best first -> ids [rows, k]. Equal scores: the lower id first. NaN
// counts as -inf, and -inf is never chosen: surplus places are -1. 1 <= k <= experts.
void top_k_rows(const float* scores, int64_t rows, int64_t experts, int64_t k, int64_t* ids) noexcept;

struct PairList {
  const int64_t* expert_ids;  // [tokens, k]; -1 = nobody
  const bool* kept;           // [tokens, k]; null = all
  int64_t tokens, k, experts;
};

// Kept pairs sorted by (expert, token, choice): row_token and row_pair (flat t * k + j) have room for tokens * k, offsets
// for experts + 1. Returns the number of rows.
int64_t plan_counting_sort(const PairList& pairs, int64_t* row_token, int64_t* row_pair, int64_t* offsets) noexcept;

struct PlaceRequest {
  const int64_t* expert_ids;  // [tokens, k]; -1 = nobody
  const int64_t* order;       // [tokens]: who is served first
  int64_t tokens, k, experts, capacity;
};

// kept [tokens, k]: the pairs that get one of the `capacity` places of their expert. Every first choice is served before
// any second choice; inside a rank tokens are served in `order`.
void assign_slots(const PlaceRequest& request, bool* kept);

}  // namespace switchyard::kernels
