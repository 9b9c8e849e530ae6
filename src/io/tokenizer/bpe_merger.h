// Byte-pair encoding of one word: of all neighbouring pairs, the one with the best rank is merged, of equal ranks the
// leftmost first, until none is left. Source: Sennrich, Haddow, Birch, arXiv:1508.07909, algorithm 1.
#pragma once

#include "io/tokenizer/merge_table.h"

#include <cstdint>
#include <vector>

namespace switchyard::io {

class BpeMerger {
 public:
  void reserve(size_t num_merges) { merges_.reserve(num_merges); }
  void add(int32_t left, int32_t right, int32_t rank, int32_t merged) { merges_.add(left, right, {rank, merged}); }
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

  // Replaces `ids` (one per byte or character of a word) by its tokens; O(n log n).
  void merge(std::vector<int32_t>& ids, Scratch& scratch) const;

 private:
  void merge_short(std::vector<int32_t>& ids) const;
  void push_candidate(Scratch& scratch, int32_t position) const;

  MergeTable merges_;
};

}  // namespace switchyard::io
