#include "io/tokenizer/bpe_merger.h"

#include <algorithm>
#include <utility>

namespace switchyard::io {
namespace {

using Candidate = BpeMerger::Scratch::Candidate;

// The heap's top is the best rank, then the leftmost place.
bool comes_later(const Candidate& a, const Candidate& b) {
  return std::pair(a.rank, a.position) > std::pair(b.rank, b.position);
}

}  // namespace

void BpeMerger::push_candidate(Scratch& scratch, int32_t position) const {
  const auto& left = scratch.symbols[static_cast<size_t>(position)];
  if (left.next < 0) return;
  const auto& right = scratch.symbols[static_cast<size_t>(left.next)];
  const auto found = merges_.find(key(left.id, right.id));
  if (found == merges_.end()) return;
  scratch.heap.push_back({found->second.rank, position, left.id, right.id, found->second.merged});
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), comes_later);
}

void BpeMerger::merge(std::vector<int32_t>& ids, Scratch& scratch) const {
  const auto count = static_cast<int32_t>(ids.size());
  if (count < 2) return;
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
