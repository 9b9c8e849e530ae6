// Routing between scores and rows: choosing experts and their shares, granting places under a capacity, sorting (token, choice) pairs by expert.
//
// T tokens, E experts, k choices per token. ids [T, k] hold 0 .. E-1, or -1 for no expert. Everything is stable and, but
// for shares, exact: the same input gives the same output for every instruction set and number of threads.
#pragma once

#include <cstdint>

namespace switchyard::kernels {

// The k largest scores of every row [T, E], largest first; equal scores in order of expert. NaN counts as -infinity, and
// -infinity is never chosen: where too few experts remain the id is -1 and the value 0. k <= E < 2^32. values [T, k] may be null.
void top_k_rows(int64_t tokens, int64_t experts, int64_t k, const float* scores, int64_t* ids, float* values) noexcept;

// weights[t, j] = scores[t, ids[t, j]] over the sum of those of t, which counts as at least 1e-20; 0 where the id is -1.
void chosen_shares(int64_t tokens, int64_t experts, int64_t k, const float* scores, const int64_t* ids, float* weights) noexcept;
// d_scores [T, E] from the same arguments and the gradient of the weights.
void chosen_shares_backward(int64_t tokens, int64_t experts, int64_t k, const float* scores, const int64_t* ids, const float* weights,
                            const float* d_weights, float* d_scores) noexcept;

// Grants at most `capacity` places per expert: every first choice before any second one, and within a rank by `order`
// [T], the tokens from first to last served (null: as they come). kept [T, k] becomes 1 or 0; no expert gives 0.
void assign_slots(int64_t tokens, int64_t k, int64_t experts, const int64_t* expert_ids, const int64_t* order,
                  int64_t capacity, uint8_t* kept) noexcept;

// Sorts the choices by (expert, token, rank), leaving out -1 and what is not kept (kept null: all are). Returns their
// number N <= T * k. Row r belongs to token row_token[r], and its weight is element row_weight_index[r] of weights [T, k].
// row_of_choice [T, k] is the way back: the row of a choice, -1 where it has none. The rows of expert e are offsets[e] ..
// offsets[e+1]-1. Room: row_token, row_weight_index and row_of_choice T * k, offsets E + 1.
int64_t plan_counting_sort(int64_t tokens, int64_t k, int64_t experts, const int64_t* expert_ids, const uint8_t* kept,
                           int64_t* row_token, int64_t* row_weight_index, int64_t* row_of_choice, int64_t* offsets) noexcept;

}  // namespace switchyard::kernels
