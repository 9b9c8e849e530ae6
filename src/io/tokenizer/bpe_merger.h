// Byte-pair encoding of one word: of all neighbouring pairs, the one with the best rank is merged, the leftmost first,
// until none is left. Source: Sennrich, Haddow, Birch, arXiv:1508.07909, algorithm 1, applied to bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace switchyard::io {

class BpeMerger {
 public:
  void add(int32_t left, int32_t right, int32_t rank, int32_t merged) { merges_[key(left, right)] = {rank, merged}; }
  [[nodiscard]] bool empty() const noexcept { return merges_.empty(); }

  // Working memory of merge(), reused between words.
  struct Scratch {
    struct Symbol {
      int32_t id, previous, next;  // neighbours by position, -1 at the ends
    };
    struct Candidate {
      int32_t rank, position, left, right, merged;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // Replaces `ids` (one per byte of a word) by its tokens; O(n log n).
  void merge(std::vector<int32_t>& ids, Scratch& scratch) const;

 private:
  struct Merge {
    int32_t rank, merged;
  };

  static uint64_t key(int32_t left, int32_t right) noexcept {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  void push_candidate(Scratch& scratch, int32_t position) const;

  std::unordered_map<uint64_t, Merge> merges_;
};

}  // namespace switchyard::io
