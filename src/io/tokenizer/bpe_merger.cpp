#include "io/tokenizer/bpe_merger.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace switchyard::io {
namespace {

using Candidate = BpeMerger::Scratch::Candidate;

constexpr size_t kShortWord = 24;  // up to here looking through all pairs is faster than a heap

// The heap's top is the best rank, then the leftmost place.
bool comes_later(const Candidate& a, const Candidate& b) {
  return std::pair(a.rank, a.position) > std::pair(b.rank, b.position);
}

}  // namespace

void BpeMerger::merge_short(std::vector<int32_t>& ids) const {
  constexpr Merge kNone{std::numeric_limits<int32_t>::max(), -1};
  std::array<Merge, kShortWord> pairs;  // pairs[i]: the merge of ids[i] and ids[i + 1]
  size_t count = ids.size();
  const auto look_up = [&](size_t i) {
    const Merge* found = merges_.get(ids[i], ids[i + 1]);
    pairs[i] = found ? *found : kNone;
  };
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (pairs[i].rank < pairs[best].rank) best = i;
    if (pairs[best].token < 0) break;
    ids[best] = pairs[best].token;
    --count;
    for (size_t i = best + 1; i < count; ++i) {
      ids[i] = ids[i + 1];
      if (i + 1 < count) pairs[i] = pairs[i + 1];
    }
    if (best + 1 < count) look_up(best);
    if (best > 0) look_up(best - 1);
  }
  ids.resize(count);
}

void BpeMerger::push_candidate(Scratch& scratch, int32_t position) const {
  const auto& left = scratch.symbols[static_cast<size_t>(position)];
  if (left.next < 0) return;
  const auto& right = scratch.symbols[static_cast<size_t>(left.next)];
  const Merge* found = merges_.get(left.id, right.id);
  if (found == nullptr) return;
  scratch.heap.push_back({found->rank, position, left.id, right.id, found->token});
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), comes_later);
}

void BpeMerger::merge(std::vector<int32_t>& ids, Scratch& scratch) const {
  if (ids.size() < 2 || merges_.empty()) return;
  if (ids.size() <= kShortWord) return merge_short(ids);
  const auto count = static_cast<int32_t>(ids.size());
  constexpr int32_t kGone = -1;  // id of a symbol that was merged into its left neighbour
  auto& symbols = scratch.symbols;
  symbols.clear();
  scratch.heap.clear();
  for (int32_t i = 0; i < count; ++i) symbols.push_back({ids[static_cast<size_t>(i)], i - 1, i + 1 < count ? i + 1 : -1});
  for (int32_t i = 0; i + 1 < count; ++i) push_candidate(scratch, i);

  while (!scratch.heap.empty()) {
    std::pop_heap(scratch.heap.begin(), scratch.heap.end(), comes_later);
    const Candidate best = scratch.heap.back();
    scratch.heap.pop_back();
    auto& left = symbols[static_cast<size_t>(best.position)];
    if (left.id != best.left || left.next < 0) continue;  // an earlier merge changed the pair
    auto& right = symbols[static_cast<size_t>(left.next)];
    if (right.id != best.right) continue;
    left.id = best.merged;
    left.next = right.next;
    right.id = kGone;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = best.position;
    push_candidate(scratch, best.position);
    if (left.previous >= 0) push_candidate(scratch, left.previous);
  }
  ids.clear();
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) ids.push_back(symbols[static_cast<size_t>(i)].id);
}

}  // namespace switchyard::io
