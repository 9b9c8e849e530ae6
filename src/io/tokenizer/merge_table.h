// A pair of token ids to its merge: open addressing in one array, because merging asks it for every pair of neighbours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace switchyard::io {

struct Merge {
  int32_t rank = 0, token = -1;
};

class MergeTable {
 public:
  void reserve(size_t num_merges) {
    size_t size = 16;
    while (size < 2 * num_merges) size *= 2;
    if (size > slots_.size()) rehash(size);
  }

  // The last merge of a pair counts.
  void add(int32_t left, int32_t right, Merge merge) {
    reserve(count_ + 1);
    Slot& slot = slots_[find(key(left, right))];
    if (slot.key == kFree) ++count_;
    slot = {key(left, right), merge};
  }

  [[nodiscard]] const Merge* get(int32_t left, int32_t right) const noexcept {
    if (count_ == 0) return nullptr;
    const Slot& slot = slots_[find(key(left, right))];
    return slot.key == kFree ? nullptr : &slot.merge;
  }

  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }

 private:
  static constexpr uint64_t kFree = ~uint64_t{0};  // no pair: ids are not negative
  struct Slot {
    uint64_t key = kFree;
    Merge merge;
  };

  static uint64_t key(int32_t left, int32_t right) noexcept { return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right); }

  [[nodiscard]] size_t find(uint64_t key) const noexcept {
    const size_t mask = slots_.size() - 1;
    size_t at = static_cast<size_t>((key * 0x9E3779B97F4A7C15U) >> 20) & mask;  // Knuth's multiplicative hashing
    while (slots_[at].key != key && slots_[at].key != kFree) at = (at + 1) & mask;
    return at;
  }

  void rehash(size_t size) {
    std::vector<Slot> old(size);
    old.swap(slots_);
    for (const Slot& slot : old)
      if (slot.key != kFree) slots_[find(slot.key)] = slot;
  }

  std::vector<Slot> slots_;  // a power of two, at most half of them taken
  size_t count_ = 0;
};

}  // namespace switchyard::io
