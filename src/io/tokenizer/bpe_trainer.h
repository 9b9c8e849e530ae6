// Learning of merges: the pair of neighbouring tokens that is counted most often becomes a token, again and again.
// Source: Sennrich, Haddow, Birch, arXiv:1508.07909, algorithm 1. Counts are kept up to date at the places that a merge
// touches (their section 3.2), so that all merges together cost little more than the first count.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace switchyard::io {

class BpeTrainer {
 public:
  struct Pair {
    int32_t left = 0, right = 0;
    bool operator==(const Pair&) const = default;
    auto operator<=>(const Pair&) const = default;
  };

  // `word` as bytes with ids 0..255, `count` times. All words before the first merge.
  void add_word(std::string_view word, int64_t count);

  // The most frequent pair, of equals the lower one; empty when no pair comes twice.
  [[nodiscard]] std::optional<Pair> best_pair();

  // Replaces the pair by `token` in all words, from left to right.
  void merge(Pair pair, int32_t token);

  [[nodiscard]] int64_t count_of(Pair pair) const;  // for tests

 private:
  struct Word {
    std::vector<int32_t> ids;
    int64_t count = 0;
  };
  struct PairInfo {
    int64_t count = 0;
    std::vector<int32_t> words;  // those that held the pair at some time; a word may come twice
  };
  struct Ranked {
    int64_t count;
    Pair pair;
  };

  static uint64_t key(Pair pair) noexcept {
    return static_cast<uint64_t>(static_cast<uint32_t>(pair.left)) << 32 | static_cast<uint32_t>(pair.right);
  }
  static bool is_worse(const Ranked& a, const Ranked& b) noexcept {
    return a.count != b.count ? a.count < b.count : b.pair < a.pair;
  }
  void change(Pair pair, int64_t by, int32_t word);
  void merge_in_word(Pair pair, int32_t token, int32_t word);
  void rank(Pair pair, int64_t count);

  std::vector<Word> words_;
  std::unordered_map<uint64_t, PairInfo> pairs_;
  std::vector<Ranked> heap_;   // holds for every pair at least its present count
  std::vector<Pair> changed_;  // by the merge that is under way
  bool is_ranked_ = false;
};

}  // namespace switchyard::io
