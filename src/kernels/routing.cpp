#include "kernels/routing.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/scratch.h"

namespace switchyard::kernels {
namespace {

constexpr int64_t kShortList = 96;  // longest list of the best that insertion keeps in order faster than selection

// Insertion into a list of the best k so far: most scores fail the first comparison.
void insert_top_k(int64_t experts, int64_t k, const float* scores, int64_t* ids) noexcept {
  int64_t found = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const float score = scores[e];
    if (!(score > -std::numeric_limits<float>::infinity())) continue;
    if (found == k && !(score > scores[ids[k - 1]])) continue;
    int64_t place = found < k ? found++ : k - 1;
    for (; place > 0 && score > scores[ids[place - 1]]; --place) ids[place] = ids[place - 1];
    ids[place] = e;
  }
  std::fill(ids + found, ids + k, int64_t{-1});
}

// A number that is smaller for a larger score; equal scores in order of expert.
uint64_t rank_key(float score, int64_t expert) noexcept {
  uint32_t bits = 0;
  const float one_zero = score + 0.0f;  // -0 counts as 0
  std::memcpy(&bits, &one_zero, sizeof bits);
  const uint32_t ascending = bits >> 31 ? ~bits : bits | 0x80000000u;
  return uint64_t{~ascending} << 32 | static_cast<uint64_t>(expert);
}

// Selection, then a sort of the chosen: time that is linear in the row however long the list is.
void select_top_k(int64_t experts, int64_t k, const float* scores, int64_t* ids) noexcept {
  auto* keys = reinterpret_cast<uint64_t*>(thread_scratch(ScratchUse::own, 2 * experts));
  int64_t found = 0;
  for (int64_t e = 0; e < experts; ++e)
    if (scores[e] > -std::numeric_limits<float>::infinity()) keys[found++] = rank_key(scores[e], e);
  if (found > k) std::nth_element(keys, keys + k, keys + found);
  found = std::min(found, k);
  std::sort(keys, keys + found);
  for (int64_t j = 0; j < found; ++j) ids[j] = static_cast<int64_t>(keys[j] & 0xffffffffu);
  std::fill(ids + found, ids + k, int64_t{-1});
}

constexpr float kLeastSum = 1e-20f;  // of shares: a token without any score gets weight 0, not NaN
constexpr int64_t kLeastParallelScores = 16384;

float sum_of_chosen(int64_t k, const float* scores, const int64_t* ids) noexcept {
  float sum = 0.0f;
  for (int64_t j = 0; j < k; ++j) sum += ids[j] < 0 ? 0.0f : scores[ids[j]];
  return sum;
}

}  // namespace

void top_k_rows(int64_t tokens, int64_t experts, int64_t k, const float* scores, int64_t* ids, float* values) noexcept {
  if (k == 0) return;
#pragma omp parallel for schedule(static) if (tokens * experts > kLeastParallelScores)
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = scores + t * experts;
    int64_t* chosen = ids + t * k;
    (k <= kShortList ? insert_top_k : select_top_k)(experts, k, row, chosen);
    for (int64_t j = 0; values && j < k; ++j) values[t * k + j] = chosen[j] < 0 ? 0.0f : row[chosen[j]];
  }
}

void chosen_shares(int64_t tokens, int64_t experts, int64_t k, const float* scores, const int64_t* ids, float* weights) noexcept {
#pragma omp parallel for schedule(static) if (tokens * experts > kLeastParallelScores)
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = scores + t * experts;
    const int64_t* chosen = ids + t * k;
    const float sum = sum_of_chosen(k, row, chosen), whole = sum < kLeastSum ? kLeastSum : sum;  // NaN stays NaN
    for (int64_t j = 0; j < k; ++j) weights[t * k + j] = chosen[j] < 0 ? 0.0f : row[chosen[j]] / whole;
  }
}

// w_j = s_j / S:  ds_j = (dw_j - sum_i dw_i w_i) / S;  a sum below the least one is a constant.
void chosen_shares_backward(int64_t tokens, int64_t experts, int64_t k, const float* scores, const int64_t* ids, const float* weights,
                            const float* d_weights, float* d_scores) noexcept {
#pragma omp parallel for schedule(static) if (tokens * experts > kLeastParallelScores)
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t* chosen = ids + t * k;
    const float sum = sum_of_chosen(k, scores + t * experts, chosen), whole = sum < kLeastSum ? kLeastSum : sum;
    float common = 0.0f;
    for (int64_t j = 0; sum >= kLeastSum && j < k; ++j) common += d_weights[t * k + j] * weights[t * k + j];
    float* row = d_scores + t * experts;
    std::fill(row, row + experts, 0.0f);
    for (int64_t j = 0; j < k; ++j)
      if (chosen[j] >= 0) row[chosen[j]] += (d_weights[t * k + j] - common) / whole;
  }
}

void assign_slots(int64_t tokens, int64_t k, int64_t experts, const int64_t* expert_ids, const int64_t* order,
                  int64_t capacity, uint8_t* kept) noexcept {
  int64_t* taken = reinterpret_cast<int64_t*>(thread_scratch(ScratchUse::own, 2 * experts));
  std::fill(taken, taken + experts, int64_t{0});
  for (int64_t j = 0; j < k; ++j)
    for (int64_t n = 0; n < tokens; ++n) {
      const int64_t choice = (order ? order[n] : n) * k + j, e = expert_ids[choice];
      kept[choice] = e >= 0 && taken[e] < capacity;
      if (kept[choice]) ++taken[e];
    }
}

int64_t plan_counting_sort(int64_t tokens, int64_t k, int64_t experts, const int64_t* expert_ids, const uint8_t* kept,
                           int64_t* row_token, int64_t* row_weight_index, int64_t* row_of_choice, int64_t* offsets) noexcept {
  const auto has_row = [&](int64_t choice) { return expert_ids[choice] >= 0 && (!kept || kept[choice]); };
  std::fill(offsets, offsets + experts + 1, int64_t{0});
  for (int64_t choice = 0; choice < tokens * k; ++choice)
    if (has_row(choice)) ++offsets[expert_ids[choice] + 1];
  for (int64_t e = 0; e < experts; ++e) offsets[e + 1] += offsets[e];
  // offsets[e] walks from the start of expert e to its end, which is the start of e + 1: afterwards one shift restores it.
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t choice = t * k; choice < (t + 1) * k; ++choice) {
      row_of_choice[choice] = -1;
      if (!has_row(choice)) continue;
      const int64_t row = row_of_choice[choice] = offsets[expert_ids[choice]]++;
      row_token[row] = t;
      row_weight_index[row] = choice;
    }
  for (int64_t e = experts; e > 0; --e) offsets[e] = offsets[e - 1];
  offsets[0] = 0;
  return offsets[experts];
}

}  // namespace switchyard::kernels
