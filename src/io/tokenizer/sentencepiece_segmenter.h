// Segmentation of a normalised text by the pieces of a sentencepiece model. Ids of pieces, or those above for what is no
// piece: the caller writes it as unknown or as bytes.
#pragma once

#include "io/tokenizer/sentencepiece_model.h"
#include "io/tokenizer/subword_model.h"

#include <memory>

namespace switchyard::io {

class SentencePieceSegmenter {
 public:
  struct Segment {
    std::string_view text;
    int32_t id = -1;  // -1: no piece
  };

  virtual ~SentencePieceSegmenter() = default;
  // Appends the segments of `text`, valid UTF-8. Safe to call from several threads, each with its scratch.
  virtual void segment(std::string_view text, std::vector<Segment>& segments, SubwordModel::Scratch& scratch) const = 0;
};

// Both keep references to `spec`.
[[nodiscard]] std::unique_ptr<SentencePieceSegmenter> make_unigram_segmenter(const SentencePieceSpec& spec);
[[nodiscard]] std::unique_ptr<SentencePieceSegmenter> make_bpe_segmenter(const SentencePieceSpec& spec);

// Pieces that a text can be made of.
[[nodiscard]] inline bool is_text_piece(const SentencePieceSpec::Piece& piece) noexcept {
  using Type = SentencePieceSpec::Type;
  return piece.type == Type::normal || piece.type == Type::user_defined || piece.type == Type::unused;
}

}  // namespace switchyard::io
