// The ids of words that came before. A table of fixed slots: a word replaces the one that had its slot, so that memory is
// bounded and nothing is allocated per word.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace switchyard::io {

class WordCache {
 public:
  static constexpr size_t kMaxBytes = 30, kMaxIds = 8;  // longer ones seldom come twice

  // The ids of `word`, not empty; an empty span: not known.
  [[nodiscard]] std::span<const int32_t> find(std::string_view word) const noexcept {
    if (word.size() > kMaxBytes) return {};
    const Slot& slot = slots_[index(word)];
    if (slot.bytes != word.size() || std::memcmp(slot.word, word.data(), word.size()) != 0) return {};
    return {slot.ids, slot.count};
  }

  void store(std::string_view word, std::span<const int32_t> ids) {
    if (word.size() > kMaxBytes || ids.size() > kMaxIds || ids.empty()) return;
    if (++stored_ > slots_.size() && slots_.size() < kMostSlots) {
      slots_.assign(4 * slots_.size(), {});
      stored_ = 0;
    }
    Slot& slot = slots_[index(word)];
    slot.bytes = static_cast<uint8_t>(word.size());
    slot.count = static_cast<uint8_t>(ids.size());
    std::memcpy(slot.word, word.data(), word.size());
    std::copy(ids.begin(), ids.end(), slot.ids);
  }

 private:
  static constexpr size_t kFirstSlots = 1 << 8, kMostSlots = 1 << 16;  // 4 MiB
  struct alignas(64) Slot {
    int32_t ids[kMaxIds];
    char word[kMaxBytes];
    uint8_t bytes = 0, count = 0;
  };

  [[nodiscard]] size_t index(std::string_view word) const noexcept {
    constexpr uint64_t kFactor = 0x9E3779B97F4A7C15U;  // Knuth's multiplicative hashing
    uint64_t hash = word.size();
    const char* at = word.data();
    size_t left = word.size();
    for (uint64_t eight = 0; left >= sizeof eight; at += sizeof eight, left -= sizeof eight) {
      std::memcpy(&eight, at, sizeof eight);
      hash = (hash ^ eight) * kFactor;
      hash ^= hash >> 32;
    }
    uint64_t rest = 0;
    if (left >= 4) {
      uint32_t first = 0, last = 0;
      std::memcpy(&first, at, sizeof first);
      std::memcpy(&last, at + left - sizeof last, sizeof last);
      rest = static_cast<uint64_t>(first) << 32 | last;
    } else {
      for (size_t i = 0; i < left; ++i) rest = rest << 8 | static_cast<unsigned char>(at[i]);
    }
    hash = (hash ^ rest) * kFactor;
    return static_cast<size_t>(hash >> 32) & (slots_.size() - 1);
  }

  std::vector<Slot> slots_ = std::vector<Slot>(kFirstSlots);
  size_t stored_ = 0;  // since the table last grew
};

}  // namespace switchyard::io
