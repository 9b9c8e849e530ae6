// The normalizer of sentencepiece: character map, white space, and the blank in front.
#pragma once

#include "io/tokenizer/byte_trie.h"
#include "io/tokenizer/charsmap.h"
#include "io/tokenizer/sentencepiece_model.h"

namespace switchyard::io {

inline constexpr std::string_view kMetaSpace = "\u2581";

class SentencePieceNormalizer {
 public:
  // Throws Error{checkpoint} that starts with `name` for a damaged character map.
  SentencePieceNormalizer(const SentencePieceSpec& spec, const std::string& name);

  // Bytes that are no UTF-8 become U+FFFD. Text of user-defined pieces stays as it is.
  [[nodiscard]] std::string operator()(std::string_view text) const;

 private:
  // The normal form of what `text` begins with, and how many bytes that is.
  [[nodiscard]] CharsMap::Match next(std::string_view text) const;

  CharsMap map_;
  ByteTrie user_pieces_;
  bool add_prefix_, add_suffix_, collapse_;
  std::string_view space_;
};

}  // namespace switchyard::io
