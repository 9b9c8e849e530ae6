// The most probable segmentation of a text into pieces (Viterbi). Source: Kudo, arXiv:1804.10959, section 3.1, in the
// left-to-right form of sentencepiece: a character that is no piece of its own may be unknown, at a cost.
#pragma once

#include "io/tokenizer/byte_trie.h"
#include "io/tokenizer/subword_model.h"
#include "io/tokenizer/utf8.h"

#include <algorithm>
#include <vector>

namespace switchyard::io {

// `Score` is the type in which the scores of a path are summed: float in sentencepiece, double in Hugging Face tokenizers.
template <class Score>
class UnigramLattice {
 public:
  static constexpr int32_t kUnknown = -2;  // id of a character that is no piece
  static constexpr double kUnknownPenalty = 10;

  // scores[id] of every value in `pieces`; `min_score` is that of the worst piece.
  UnigramLattice(ByteTrie pieces, std::vector<double> scores, double min_score)
      : pieces_(std::move(pieces)), scores_(std::move(scores)), unknown_score_(min_score - kUnknownPenalty) {}

  // Calls visit(begin, end, id) for the pieces of the best path from left to right.
  template <class Visit>
  void segment(std::string_view text, std::vector<SubwordModel::Scratch::Step>& path, Visit&& visit) const {
    path.assign(text.size() + 1, {});
    size_t bytes = 0;
    for (size_t begin = 0; begin < text.size(); begin += bytes) {
      bytes = std::max<size_t>(1, decode_utf8(text, begin).bytes);
      bool is_piece = false;
      const auto offer = [&](size_t length, int32_t id, double score) {
        auto& end = path[begin + length];
        const double sum = score + path[begin].score;
        if (end.begin >= 0 && !(sum > end.score)) return;
        end = {static_cast<double>(static_cast<Score>(sum)), static_cast<int32_t>(begin), id};
      };
      pieces_.for_each_prefix(text, begin, [&](size_t length, int32_t id) {
        offer(length, id, scores_[static_cast<size_t>(id)]);
        is_piece |= length == bytes;
      });
      if (!is_piece) offer(bytes, kUnknown, unknown_score_);
    }
    // The path is linked from its end: turn the links round.
    auto end = static_cast<int32_t>(text.size());
    int32_t next = -1;
    while (end > 0) {
      const int32_t begin = path[static_cast<size_t>(end)].begin;
      path[static_cast<size_t>(end)].begin = next;
      next = end;
      end = begin;
    }
    for (int32_t begin = 0; next > 0;) {
      const auto& step = path[static_cast<size_t>(next)];
      visit(static_cast<size_t>(begin), static_cast<size_t>(next), step.id);
      begin = next;
      next = step.begin;
    }
  }

 private:
  ByteTrie pieces_;
  std::vector<double> scores_;
  double unknown_score_;
};

}  // namespace switchyard::io
