#include "kernels/routing.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace switchyard::kernels {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

// Insertion into a short sorted list: k is small, and most candidates lose against its last entry.
void top_k_row(const float* scores, int64_t experts, int64_t k, int64_t* ids, float* best) noexcept {
  std::fill(best, best + k, kNever);
  std::fill(ids, ids + k, int64_t{-1});
  for (int64_t e = 0; e < experts; ++e) {
    const float s = scores[e];
    if (!(s > best[k - 1])) continue;  // also NaN; equal scores keep the lower id
    int64_t place = k - 1;
    for (; place > 0 && s > best[place - 1]; --place) {
      best[place] = best[place - 1];
      ids[place] = ids[place - 1];
    }
    best[place] = s;
    ids[place] = e;
  }
}

}  // namespace

void top_k_rows(const float* scores, int64_t rows, int64_t experts, int64_t k, int64_t* ids) noexcept {
#pragma omp parallel if (rows * experts > 65536)
  {
    std::vector<float> best(static_cast<size_t>(k));
#pragma omp for
    for (int64_t r = 0; r < rows; ++r) top_k_row(scores + r * experts, experts, k, ids + r * k, best.data());
  }
}

int64_t plan_counting_sort(const PairList& p, int64_t* row_token, int64_t* row_pair, int64_t* offsets) noexcept {
  const int64_t pairs = p.tokens * p.k;
  const auto wanted = [&](int64_t i) { return p.expert_ids[i] >= 0 && (!p.kept || p.kept[i]); };
  std::fill(offsets, offsets + p.experts + 1, int64_t{0});
  for (int64_t i = 0; i < pairs; ++i)
    if (wanted(i)) ++offsets[p.expert_ids[i] + 1];
  for (int64_t e = 0; e < p.experts; ++e) offsets[e + 1] += offsets[e];
  // offsets[e] walks to the end of its expert while rows are written, and is put back afterwards.
  for (int64_t i = 0; i < pairs; ++i) {
    if (!wanted(i)) continue;
    const int64_t row = offsets[p.expert_ids[i]]++;
    row_token[row] = i / p.k;
    row_pair[row] = i;
  }
  for (int64_t e = p.experts; e > 0; --e) offsets[e] = offsets[e - 1];
  offsets[0] = 0;
  return offsets[p.experts];
}

void assign_slots(const PlaceRequest& r, bool* kept) {
  std::vector<int64_t> taken(static_cast<size_t>(r.experts), 0);
  std::fill(kept, kept + r.tokens * r.k, false);
  for (int64_t j = 0; j < r.k; ++j)
    for (int64_t i = 0; i < r.tokens; ++i) {
      const int64_t pair = r.order[i] * r.k + j, e = r.expert_ids[pair];
      if (e >= 0 && taken[static_cast<size_t>(e)] < r.capacity) {
        ++taken[static_cast<size_t>(e)];
        kept[pair] = true;
      }
    }
}

}  // namespace switchyard::kernels
